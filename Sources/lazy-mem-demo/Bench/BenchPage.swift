extension BenchReport { func page() -> String { "" } }
