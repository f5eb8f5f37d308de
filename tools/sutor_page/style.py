"""Style sheet of the page: readable in grey, in the dark, and from 320 pixels on."""

STYLE = """
:root { color-scheme: light dark; --ink: #1c1f23; --paper: #fff; --dim: #5c646d; --line: #8885;
  --soft: #8881; --c0: #1a5fa8; --c1: #b0481c; --c2: #2c7a4b; --c3: #7a3f9d; --mark: #b0481c }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e7ea; --paper: #15181b; --dim: #a2abb4;
  --c0: #74aee8; --c1: #eb9468; --c2: #74c596; --c3: #c796e6; --mark: #eb9468 } }
* { box-sizing: border-box }
body { font: 15px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; color: var(--ink);
  background: var(--paper); margin: 0 auto; max-width: 78rem; padding: 1rem }
h1 { font-size: 1.5rem; line-height: 1.25; margin: .2rem 0 .4rem; overflow-wrap: anywhere }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .7rem; border-bottom: 1px solid var(--line);
  padding-bottom: .25rem }
h3 { font-size: 1rem; margin: 1.2rem 0 .4rem }
p { margin: .4rem 0 } a { color: var(--c0) }
nav { display: flex; flex-wrap: wrap; gap: .2rem .9rem; margin: .6rem 0; font-size: .92rem }
.badge { display: inline-block; border: 1.5px solid currentColor; border-radius: .3rem;
  padding: 0 .5rem; font-weight: 600 }
.badge.bad { color: var(--mark) }
.lead { font-size: 1.05rem } .dim, figcaption .unit { color: var(--dim) } .dim { font-size: .9rem }
.note { border-left: 4px solid var(--c0); padding: .3rem .8rem; margin: .5rem 0;
  background: var(--soft); overflow-wrap: anywhere }
.note.bad { border-left-color: var(--mark) }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 17rem), 1fr));
  gap: .5rem 1.4rem; margin: .6rem 0 }
.facts dt { color: var(--dim); font-size: .85rem } .facts dd { margin: 0; overflow-wrap: anywhere }
.wide { margin: .6rem 0 } .command { font: 13px/1.5 ui-monospace, "DejaVu Sans Mono", monospace;
  background: var(--soft); padding: .5rem .7rem; white-space: pre-wrap; overflow-wrap: anywhere;
  margin: .3rem 0 }
.scroll { overflow-x: auto; max-width: 100% }
table { border-collapse: collapse; margin: .4rem 0; font-size: .92rem; min-width: min(100%, 24rem) }
th, td { text-align: left; padding: .22rem .8rem .22rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; white-space: nowrap }
th { font-weight: 600; white-space: nowrap }
.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
td.t { font: 12.5px/1.5 ui-monospace, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere;
  white-space: normal; min-width: 14rem }
td.w { white-space: pre-wrap; overflow-wrap: anywhere; min-width: 14rem }
.charts { display: grid; gap: 1rem; grid-template-columns:
  repeat(auto-fit, minmax(min(100%, 19rem), 1fr)) }
figure { margin: 0; min-width: 0 } figcaption { font-weight: 600; font-size: .92rem }
.keys { display: flex; flex-wrap: wrap; gap: 0 .8rem; font-weight: 400; font-size: .85rem }
.key { display: inline-flex; align-items: center; gap: .3rem }
.chart > svg { width: 100%; height: auto; display: block; touch-action: pan-y }
svg text { font-size: 11px; fill: var(--dim) }
.rule { stroke: var(--line); stroke-width: .6 }
.line path { fill: none; stroke-width: 1.7; stroke-linejoin: round; stroke: currentColor }
.line { color: var(--c0); fill: currentColor } .line.c1 { color: var(--c1) }
.line.c2 { color: var(--c2) } .line.c3 { color: var(--c3) }
.cursor { stroke: var(--ink); fill: none; stroke-width: 1.2; visibility: hidden }
.on .cursor { visibility: visible }
.readout { display: block; font-size: .88rem; min-height: 1.4em;
  font-variant-numeric: tabular-nums; overflow-wrap: anywhere }
.heat { display: block } .heat .shade { fill: var(--ink) }
.heat .frame { fill: none; stroke: var(--line) }
.heat .chosen { fill: none; stroke: var(--ink); stroke-width: 2 }
.heat .cursor { stroke: var(--mark); stroke-width: 3 }
.bars { display: grid; grid-template-columns: auto 1fr auto; gap: .15rem .6rem; max-width: 40rem;
  align-items: center; font-size: .92rem; font-variant-numeric: tabular-nums }
.bars i { display: block; height: .75rem; background: var(--c0); min-width: 1px }
:focus-visible { outline: 2.5px solid var(--c0); outline-offset: 2px }
details { margin: .6rem 0 } summary { cursor: pointer; font-weight: 600 }
pre { font: 12.5px/1.45 ui-monospace, "DejaVu Sans Mono", monospace; overflow-x: auto;
  background: var(--soft); padding: .6rem; margin: .4rem 0 }
@media print { nav, .readout { display: none } details { display: block } }
"""
