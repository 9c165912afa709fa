extension BenchReport {
  /// The page's style, for light and for dark. What fills pages in the same way has the same colour; the wide requests of a
  /// way have a neighbouring one.
  static let style = """
    :root {
      color-scheme: light dark;
      --ground: #fbfbf9; --panel: #ffffff; --ink: #1c1e21; --soft: #5b6169; --rule: #dfe1e4; --faint: #eef0f1;
      --caution: #8a4b00; --caution-ground: #fff4df; --caution-rule: #f0c878;
      --memory: #22262b; --mapped: #8b929b; --protected: #cf2a2a; --spinning: #c77700;
      --inThread: #0a8a55; --inThreadWide: #7d9a00; --pinned: #1f5fd0; --pinnedWide: #0895b5;
      --loose: #7b3bd0; --looseWide: #c5369b;
    }
    @media (prefers-color-scheme: dark) {
      :root {
        --ground: #131518; --panel: #1a1d21; --ink: #e8eaed; --soft: #a0a7b0; --rule: #33383f; --faint: #24282d;
        --caution: #ffd089; --caution-ground: #33270f; --caution-rule: #6d5420;
        --memory: #f2f3f5; --mapped: #8f98a3; --protected: #ff7272; --spinning: #ffb340;
        --inThread: #3ed492; --inThreadWide: #c3dd3d; --pinned: #6ea3ff; --pinnedWide: #3fd2ef;
        --loose: #b48cff; --looseWide: #ff82d0;
      }
    }
    * { box-sizing: border-box; }
    body { margin: 0; background: var(--ground); color: var(--ink);
      font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif; }
    main { max-width: 1180px; margin: 0 auto; padding: 32px 24px 64px; }
    h1 { font-size: 28px; line-height: 1.2; margin: 0 0 4px; letter-spacing: -.01em; }
    h2 { font-size: 19px; margin: 0 0 4px; }
    h3 { font-size: 15px; margin: 20px 0 4px; }
    p { margin: 0 0 12px; max-width: 86ch; color: var(--soft); }
    .lead { font-size: 17px; color: var(--ink); }
    section { background: var(--panel); border: 1px solid var(--rule); border-radius: 10px; padding: 20px 22px;
      margin-top: 22px; }
    .warning { background: var(--caution-ground); color: var(--caution); border: 1px solid var(--caution-rule);
      border-radius: 8px; padding: 10px 14px; margin: 12px 0; }
    .warning ul { margin: 2px 0 0; padding-left: 20px; }
    .quiet::before { content: "\\2713\\00a0"; color: var(--inThread); font-weight: 700; }
    .machine { display: grid; grid-template-columns: repeat(auto-fit, minmax(440px, 1fr)); gap: 2px 28px; margin: 14px 0 0; }
    .machine div { display: flex; gap: 12px; border-top: 1px solid var(--rule); padding: 5px 0; }
    .machine dt { color: var(--soft); flex: 0 0 90px; }
    .machine dd { margin: 0; }
    svg.figure { display: block; width: 100%; height: auto; overflow: visible; }
    svg text { fill: var(--soft); font-size: 12px; font-family: inherit; }
    svg text.name { fill: var(--ink); font-size: 13px; font-family: ui-monospace, "DejaVu Sans Mono", monospace; }
    svg text.value { fill: var(--ink); font-variant-numeric: tabular-nums; }
    .grid { stroke: var(--rule); stroke-width: 1; }
    .grid.minor { stroke: var(--faint); }
    .yardstick { stroke-width: 1.2; stroke-dasharray: 3 4; fill: none; }
    .line { fill: none; stroke-width: 2.2; stroke-linejoin: round; stroke-linecap: round; }
    .line.f-reference { stroke-dasharray: 6 5; stroke-width: 1.8; }
    .dot { stroke: none; }
    .dot.one { opacity: .32; }
    .dot.f-reference.middle { fill: var(--panel); stroke-width: 2.2; }
    .legend { columns: 2 440px; column-gap: 24px; margin: 12px 0 14px; }
    fieldset { border: 0; margin: 0 0 8px; padding: 0; break-inside: avoid; }
    legend { padding: 0 0 2px; font-weight: 600; }
    .key { display: grid; grid-template-columns: 18px 34px max-content 1fr; align-items: center; column-gap: 8px;
      padding: 1px 6px; margin-left: -6px; border-radius: 5px; font-size: 13px; cursor: pointer; }
    .key:hover { background: var(--faint); }
    .key input { margin: 0; accent-color: var(--soft); }
    .key svg { width: 34px; height: 10px; }
    .name { font-family: ui-monospace, "DejaVu Sans Mono", monospace; }
    .about { color: var(--soft); }
    .scroll { overflow-x: auto; }
    table { border-collapse: collapse; width: 100%; font-size: 13px; font-variant-numeric: tabular-nums; }
    th, td { padding: 5px 8px; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--rule); }
    th:first-child, th:last-child, td:last-child { text-align: left; }
    thead th { color: var(--soft); font-weight: 600; }
    tbody th { font-weight: 400; font-family: ui-monospace, "DejaVu Sans Mono", monospace; }
    tbody th svg { width: 20px; height: 10px; margin-right: 8px; vertical-align: baseline; }
    tbody tr:hover { background: var(--faint); }
    .notes { color: var(--soft); font-size: 13px; padding-left: 18px; margin: 14px 0 0; }
    \(tones)
    """

  private static var tones: String {
    BenchContender.Tone.allCases.map { tone in
      let name = tone.rawValue
      return ".t-\(name) { stroke: var(--\(name)); } .dot.t-\(name) { fill: var(--\(name)); }"
    }.joined(separator: "\n")
  }
}
