extension BenchReport {
  /// The style of the page, for light and dark colour schemes. Contenders that fill pages in the same way have the
  /// same colour.
  static let style = """
    :root {
      color-scheme: light dark;
      --ground: #fbfbf9; --panel: #ffffff; --ink: #1c1e21; --soft: #5b6169; --rule: #dfe1e4; --faint: #eef0f1;
      --caution: #8a4b00; --caution-ground: #fff4df; --caution-rule: #f0c878;
      --memory: #22262b; --mapped: #8b929b; --protected: #cf2a2a; --chosen: #00a37a; --inThread: #4d7c0f;
      --automatic: #7b3bd0; --following: #0895b5; --pinned: #1f5fd0; --spinning: #c77700; --scheduler: #c5369b;
    }
    @media (prefers-color-scheme: dark) {
      :root {
        --ground: #131518; --panel: #1a1d21; --ink: #e8eaed; --soft: #a0a7b0; --rule: #33383f; --faint: #24282d;
        --caution: #ffd089; --caution-ground: #33270f; --caution-rule: #6d5420;
        --memory: #f2f3f5; --mapped: #8f98a3; --protected: #ff7272; --chosen: #2fe0b0; --inThread: #b5d83a;
        --automatic: #b48cff; --following: #3fd2ef; --pinned: #6ea3ff; --spinning: #ffb340; --scheduler: #ff82d0;
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
    .machine { display: grid; grid-template-columns: repeat(auto-fit, minmax(440px, 1fr)); gap: 2px 28px;
      margin: 14px 0 0; }
    .machine div { display: flex; gap: 12px; border-top: 1px solid var(--rule); padding: 5px 0; }
    .machine dt { color: var(--soft); flex: 0 0 90px; }
    .machine dd { margin: 0; }
    .tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(210px, 1fr)); gap: 12px;
      margin: 18px 0 14px; }
    .tile { background: var(--panel); border: 1px solid var(--rule); border-radius: 10px; padding: 12px 16px; }
    .tile .title { font-weight: 600; }
    .tile .number { font-size: 27px; line-height: 1.35; font-variant-numeric: tabular-nums; letter-spacing: -.01em; }
    .tile .text { color: var(--soft); font-size: 13px; line-height: 1.4; }
    .plot { position: relative; display: grid; grid-template-columns: max-content minmax(0, 1fr) repeat(3, max-content);
      column-gap: 14px; align-items: center; padding-bottom: 26px; font-size: 13px; text-align: right;
      font-variant-numeric: tabular-nums; }
    .plot .row { display: contents; }
    .plot svg { display: block; width: 100%; overflow: visible; }
    .plot .back { position: absolute; grid-column: 2 / 3; grid-row: 1; top: 22px; left: 0; height: calc(100% - 48px); }
    .plot .dots { position: relative; height: 22px; }
    .plot .head { color: var(--soft); font-size: 12px; }
    .plot .group { grid-column: 1 / -1; text-align: left; font-weight: 600; padding-top: 8px; position: relative; }
    .plot .group::after { content: ""; position: absolute; inset: 4px 0 auto; border-top: 1px solid var(--rule); }
    .plot .group span { background: var(--panel); padding-right: 6px; }
    .plot .name { font-size: 12.5px; }
    .plot .name.chosen { font-weight: 700; }
    svg.curves { display: block; width: 100%; height: 400px; overflow: visible; }
    svg.curves svg { overflow: visible; }
    .distribution { display: grid; grid-template-columns: minmax(0, 1fr) 340px; gap: 20px; margin-bottom: 26px; }
    .frame { padding: 8px 8px 26px 58px; }
    svg text { fill: var(--soft); font-size: 12px; font-family: inherit; }
    .grid { stroke: var(--rule); stroke-width: 1; }
    .grid.minor { stroke: var(--faint); }
    .yardstick { stroke-width: 1.2; stroke-dasharray: 3 4; fill: none; }
    .line { fill: none; stroke-width: 2.2; stroke-linejoin: round; stroke-linecap: round;
      vector-effect: non-scaling-stroke; }
    .line.t-chosen { stroke-width: 3.4; }
    .line.faint { stroke: var(--mapped); stroke-width: 1.2; opacity: .6; }
    .line.f-reference { stroke-dasharray: 6 5; stroke-width: 1.8; }
    .dot { stroke: none; }
    .dot.one { opacity: .32; }
    .dot.f-reference.middle { fill: var(--panel); stroke-width: 2.2; }
    .legend { align-self: start; }
    .key { display: grid; grid-template-columns: 18px 34px 1fr; align-items: center; column-gap: 8px;
      padding: 2px 6px; border-radius: 5px; font-size: 13px; line-height: 1.35; cursor: pointer; }
    .key .about { grid-column: 3; font-size: 12px; }
    .key:hover { background: var(--faint); }
    .key input { margin: 0; accent-color: var(--soft); }
    .key svg { width: 34px; height: 10px; }
    .name { font-family: ui-monospace, "DejaVu Sans Mono", monospace; }
    .about { color: var(--soft); }
    .scroll { overflow-x: auto; }
    table { border-collapse: collapse; width: 100%; font-size: 13px; font-variant-numeric: tabular-nums; }
    th, td { padding: 5px 6px; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--rule); }
    th:first-child, th:last-child, td:last-child { text-align: left; }
    thead th { color: var(--soft); font-weight: 600; white-space: normal; vertical-align: bottom; }
    td:last-child { white-space: normal; min-width: 90px; }
    tbody th { font-weight: 400; font-family: ui-monospace, "DejaVu Sans Mono", monospace; }
    tbody th svg { width: 20px; height: 10px; margin-right: 8px; vertical-align: baseline; }
    tbody tr:hover { background: var(--faint); }
    tbody tr.group th { font: inherit; font-weight: 600; text-align: left; padding-top: 14px; }
    .notes { color: var(--soft); font-size: 13px; padding-left: 18px; margin: 14px 0 0; }
    @media (max-width: 900px) { .distribution { grid-template-columns: minmax(0, 1fr); } }
    @media (max-width: 700px) {
      main { padding: 18px 10px 40px; }
      section { padding: 14px 12px; }
      .machine { grid-template-columns: minmax(0, 1fr); }
      .plot { display: block; font-size: 12px; }
      .plot .row { display: grid; grid-template-columns: minmax(0, 1fr) 48px 54px 62px; position: relative; }
      .plot .row > div, .plot .group span { background: var(--panel); min-height: 18px; }
      .plot .name { text-align: left; font-size: 11px; }
      .plot .head { font-size: 11px; white-space: nowrap; }
      .plot .dots { grid-column: 1 / -1; grid-row: 2; }
      .plot .back { top: 40px; height: calc(100% - 66px); }
      .scroll th:first-child { position: sticky; left: 0; background: var(--panel); }
      tbody th svg { display: none; }
      table { font-size: 12px; }
      .tick.between { display: none; }
      svg.curves { height: 330px; }
    }
    \(tones)
    """

  private static var tones: String {
    BenchContender.Tone.allCases.map { tone in
      let name = tone.rawValue
      return ".t-\(name) { stroke: var(--\(name)); } .dot.t-\(name) { fill: var(--\(name)); }"
    }.joined(separator: "\n")
  }
}
