/** Of the shadow tree. Font and colours are those of the page around it. */
export const CSS = `
*{box-sizing:border-box}
:host{display:grid;overflow:hidden}
:host([hidden]),[hidden]{display:none!important}
div{display:grid;grid:minmax(0,1fr)/minmax(0,1fr);position:relative;min-height:var(--tooljet-embed-min-height,20rem)}
iframe,slot{grid-area:1/1;width:100%;height:100%;border:0}
[inert]{opacity:0}
slot{display:grid;place-content:center;justify-items:center;gap:1rem;padding:1.5rem;text-align:center}
p{margin:0;max-width:30rem;text-wrap:balance}
span{display:grid;place-items:center;width:2.5rem;height:2.5rem;border:3px solid;border-radius:50%;font-weight:bold}
[part=spinner]{border-color:#8884;border-top-color:var(--tooljet-embed-accent,currentcolor)}
button{font:inherit;font-weight:bold;color:inherit;background:0 0;cursor:pointer;min-height:2.75rem;padding:.5rem 1.25rem;border:1px solid;border-radius:.5rem}
[role]>[role]{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
@keyframes t{to{rotate:1turn}}
@media(prefers-reduced-motion:no-preference){[part=spinner]{animation:t 1s linear infinite}}
`
