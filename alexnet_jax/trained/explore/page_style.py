"""The style of a page about a trained network: for phones and desktops, light and dark."""

STYLE = """
:root { color-scheme: light dark; --paper: #faf9f6; --ink: #22252a; --soft: #62676f;
  --line: #e3e0d9; --card: #ffffff; --accent: #2f6f9f; --bad: #b8382b; --track: #eceae4;
  --shade: 47, 111, 159; --wrong: 184, 56, 43; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #15171a; --ink: #e7e5e0; --soft: #a0a6ae; --line: #2e3238;
    --card: #1c1f24; --accent: #73b3de; --bad: #f0897c; --track: #2b2f36;
    --shade: 115, 179, 222; --wrong: 240, 137, 124; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 70rem; padding: 2rem 1.25rem 4rem; background: var(--paper);
  color: var(--ink); font: 16px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif;
  overflow-wrap: anywhere; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 0.4rem; }
h2 { font-size: 1.35rem; line-height: 1.3; margin: 0 0 0.5rem; }
h3 { font-size: 1rem; margin: 1.2rem 0 0.5rem; }
h4 { font-size: 0.88rem; margin: 1rem 0 0.4rem; }
h4 small, .soft { color: var(--soft); font-weight: 400; }
p { max-width: 46rem; margin: 0 0 1rem; }
section { border-top: 1px solid var(--line); padding-top: 1.8rem; margin-top: 2.8rem; }
a { color: var(--accent); }
nav { margin: 1.4rem 0 0; display: flex; flex-wrap: wrap; gap: 0.4rem 1.1rem;
  font-size: 0.92rem; }
img { display: block; width: 100%; height: auto; border-radius: 3px; background: var(--track); }
.pixels { image-rendering: pixelated; }
figure { margin: 0; min-width: 0; }
figcaption { font-size: 0.8rem; hyphens: auto; line-height: 1.35; margin-top: 0.3rem; }
.tiles { display: grid; grid-template-columns: repeat(4, 1fr); gap: 0.8rem; margin: 1.4rem 0; }
.tile, .card, .warning { background: var(--card); border: 1px solid var(--line);
  border-radius: 10px; padding: 0.9rem 1.1rem; }
.tile b { display: block; font-size: 1.5rem; line-height: 1.3; }
.tile span { color: var(--soft); font-size: 0.85rem; }
.warning { border-left: 4px solid var(--bad); margin: 1.2rem 0; max-width: 46rem; }
dl { display: grid; grid-template-columns: 11rem minmax(0, 1fr); gap: 0.45rem 1.2rem;
  margin: 1rem 0; max-width: 52rem; }
dt { color: var(--soft); }
dd { margin: 0; }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.3rem 1.4rem 0.3rem 0; text-align: left; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 500; }
td.number, th.number { text-align: right; }
.towers { display: grid; grid-template-columns: repeat(auto-fit, minmax(17rem, 1fr));
  gap: 1.6rem; }
.kernels { display: grid; grid-template-columns: repeat(8, minmax(0, 1fr)); gap: 5px;
  max-width: 30rem; }
.kernel { position: relative; }
.dead::after { content: ""; position: absolute; inset: 0; border-radius: 3px;
  border: 1px solid var(--bad); background: linear-gradient(to top right, transparent 47%,
  var(--bad) 47%, var(--bad) 53%, transparent 53%); }
.cards { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 1.1rem;
  align-items: start; }
.card.first { grid-column: 1 / -1; }
.seen { display: grid; grid-template-columns: 11rem minmax(0, 1fr); gap: 1.1rem;
  align-items: start; }
.bars { display: grid; gap: 0.35rem; font-size: 0.88rem; min-width: 0; }
.row { display: grid; grid-template-columns: minmax(0, 8rem) minmax(3rem, 1fr) 4rem;
  gap: 0.6rem; align-items: center; line-height: 1.25; }
.row > :last-child { text-align: right; white-space: nowrap;
  font-variant-numeric: tabular-nums; }
.seen .bars { max-width: 26rem; gap: 0.5rem; }
.seen .row { grid-template-columns: minmax(0, 1fr) auto; gap: 0.15rem 0.6rem; }
.seen .row > :last-child { grid-area: 1 / 2; }
.seen .track { grid-area: 2 / 1 / auto / -1; height: 0.5rem; }
.track { background: var(--track); border-radius: 4px; height: 0.75rem; overflow: hidden; }
.bar { background: var(--accent); height: 100%; border-radius: 4px; }
.true { font-weight: 600; }
.bar.wrong { background: var(--bad); }
.bad { color: var(--bad); }
details { margin-top: 0.9rem; }
summary { cursor: pointer; color: var(--accent); font-size: 0.9rem; }
.layers { display: grid; grid-template-columns: repeat(auto-fit, minmax(17rem, 1fr));
  gap: 0.2rem 2rem; }
.maps { display: grid; grid-template-columns: repeat(6, minmax(0, 1fr)); gap: 5px; }
.maps figcaption { color: var(--soft); font-size: 0.68rem; margin-top: 1px;
  text-align: center; }
.strip { display: flex; align-items: flex-end; gap: 2px; height: 3rem;
  border-bottom: 1px solid var(--line); margin-bottom: 0.3rem; }
.strip i { flex: 1; background: var(--accent); min-height: 1px; border-radius: 1px 1px 0 0; }
.strip i.minus { background: var(--bad); }
.note { font-size: 0.82rem; color: var(--soft); margin: 0; }
.mistakes { display: grid; grid-template-columns: repeat(auto-fill, minmax(8.5rem, 1fr));
  gap: 1.2rem 1.1rem; }
.near { display: grid; grid-template-columns: repeat(7, minmax(0, 1fr)); gap: 0.9rem;
  padding: 1.1rem 0; border-bottom: 1px solid var(--line); align-items: start; }
.near > div { display: contents; }
.near:last-child { border-bottom: 0; }
.near > figure figcaption { margin-top: 0.55rem; }
.near > figure img { outline: 3px solid var(--accent); outline-offset: 2px; }
.near > figure { padding: 5px 0.8rem 0 5px; }
.near > div > figure { padding-top: 5px; }
.classes { columns: 2; column-gap: 3rem; }
.classes .row { grid-template-columns: minmax(0, 9rem) minmax(3rem, 1fr) 8rem;
  break-inside: avoid; padding: 0.2rem 0; font-size: 0.88rem; }
.few { columns: 1; max-width: 44rem; }
.confusion { table-layout: fixed; width: 100%; max-width: 44rem; font-size: 0.8rem; }
.confusion th, .confusion td { padding: 0.25rem 1px; text-align: center; border: 0; }
.confusion th:first-child { text-align: left; width: 22%; padding-right: 0.4rem; }
.confusion.short th:first-child { width: 2.5rem; }
.confusion.short { max-width: 34rem; }
.confusion td { border: 1px solid var(--paper); background: var(--track); }
footer { margin-top: 3rem; }
@media (max-width: 44rem) {
  body { padding: 1.2rem 1rem 3rem; }
  h1 { font-size: 1.5rem; }
  .tiles { grid-template-columns: repeat(2, 1fr); }
  .cards { grid-template-columns: minmax(0, 1fr); }
  .card { padding: 0.9rem; }
  .seen { grid-template-columns: 6.5rem minmax(0, 1fr); gap: 0.9rem; }
  .row { grid-template-columns: minmax(0, 4.6rem) minmax(1.5rem, 1fr) 3.4rem; gap: 0.4rem; }
  dl { grid-template-columns: minmax(0, 1fr); gap: 0; }
  dd { margin-bottom: 0.7rem; }
  .near { grid-template-columns: repeat(4, minmax(0, 1fr)); gap: 0.7rem; }
  .near > figure { padding-right: 0.3rem; }
  .near > div > figure:nth-child(3n+1) { grid-column-start: 2; }
  .classes { columns: 1; }
  .classes .row { grid-template-columns: minmax(0, 6rem) minmax(2rem, 1fr) 7rem; }
  .wide td { font-size: 0; }
  .confusion.wide td, .confusion.wide th { padding: 0.4rem 0; }
  .confusion.wide th { font-size: 0.6rem; }
}
"""
