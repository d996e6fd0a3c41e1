/work/main/vendor/tiny_http/target-registry/release/deps/registry_hello-55bb9d331b757c4b.d: src/lib.rs

/work/main/vendor/tiny_http/target-registry/release/deps/libregistry_hello-55bb9d331b757c4b.rlib: src/lib.rs

/work/main/vendor/tiny_http/target-registry/release/deps/libregistry_hello-55bb9d331b757c4b.rmeta: src/lib.rs

src/lib.rs:
