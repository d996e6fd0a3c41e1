/work/main/vendor/tiny_http/target-registry/release/examples/hello-17eee87bfc385ef5.d: examples/hello.rs

/work/main/vendor/tiny_http/target-registry/release/examples/hello-17eee87bfc385ef5: examples/hello.rs

examples/hello.rs:
