/**
 * Style of the shadow tree. Font and colours are inherited from the page. A frame has no width of its own: `columns` gives one
 * where the element is as wide as its content, in a flex box or a dialog. The order is what compresses best.
 */
export const CSS = `
[inert]{opacity:0}
@keyframes t{to{rotate:1turn}}
iframe,slot{position:absolute;inset:0}
@media(prefers-reduced-motion:no-preference){[part=spinner]{animation:t 1s linear infinite}}
iframe{width:100%;height:100%;border:0}
span{width:2.5rem;border:3px solid;border-radius:50%;line-height:2.5rem}
[name=signed-out] span{display:none}
slot{display:grid;place-content:center;justify-items:center;gap:1rem;padding:1.5rem;text-align:center}
button{font:inherit;color:canvastext;background:canvas;padding:.75rem 1.25rem;border:1px solid;border-radius:.5rem}
[name=ready] button{scale:.75}
[part=spinner]{height:2.5rem;border-color:#8884;border-top-color:var(--tooljet-embed-accent,currentcolor)}
:host{display:grid;overflow:hidden}
div{position:relative;columns:20rem;min-height:var(--tooljet-embed-min-height,20rem)}
:host([hidden]),[hidden]{display:none!important}
p{margin:0;max-width:30rem}
[name=ready]{inset:auto 0 0 auto;padding:0}
[part=icon]::before{content:"!"}
[role]>[role]{position:absolute;clip-path:inset(50%)}
`
