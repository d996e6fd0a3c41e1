/work/main/vendor/tiny_http/target-registry/release/examples/hello: /tmp/tmp.oxeVYywso8/registry/examples/hello.rs /tmp/tmp.oxeVYywso8/registry/src/lib.rs
