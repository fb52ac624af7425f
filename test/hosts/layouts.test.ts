import { t as tap, test } from 'tap'
import { buildClient } from '../../.ci/build-client.js'
import { chromiumPath, closeBrowserAfter } from '../support/browser.js'
import { EmbedHost } from '../support/embed-host.js'
import { releaseRedisAfter } from '../support/portal.js'

releaseRedisAfter(tap)
closeBrowserAfter(tap)
buildClient()

/* What pages put around the element. */

const IN_A_BROWSER = chromiumPath() === undefined ? { skip: 'there is no chromium on this machine' } : {}
const ELEMENT = '<tooljet-embed app="sales"></tooljet-embed>'

/** What is around it, and how wide it is there, px. */
const LAYOUTS: [open: string, close: string, width: number][] = [
  ['<div style="width:700px">', '</div>', 700],
  ['<div style="width:200px">', '</div>', 200],
  ['<div style="width:700px;display:flex;flex-direction:column">', '</div>', 700],
  ['<div style="width:700px;display:grid">', '</div>', 700],
  ['<div style="width:300px;display:grid;grid-template-columns:1fr 1fr">', '</div>', 150],
  ['<div style="width:150px;display:flex">', '</div>', 150],
  // what fits its content
  ['<div style="width:700px;display:flex">', '</div>', 320],
  ['<div style="width:700px;display:flex;flex-direction:column;align-items:flex-start">', '</div>', 320],
  ['<div style="display:inline-block">', '</div>', 320],
  ['<div style="float:left">', '</div>', 320],
  ['<div style="position:absolute">', '</div>', 320],
  ['<dialog open>', '</dialog>', 320],
]

test('the element is as wide as what is around it, and can be seen in what fits its content', { ...IN_A_BROWSER }, async (t) => {
  const host = await EmbedHost.open(t, { csp: { 'style-src': ["'unsafe-inline'"] } })
  const visit = await host.visit(t, LAYOUTS.map(([open, close]) => `<div style="clear:both">${open}${ELEMENT}${close}</div>`).join(''), {
    prepare: (page) => page.setViewportSize({ width: 1000, height: 800 }),
  })
  await visit.sees('ready', LAYOUTS.length)
  const sizes = await visit.run<[number, number, number][]>(`[...document.querySelectorAll('tooljet-embed')].map((element) => {
    const frame = element.shadowRoot.querySelector('iframe')
    return [element.offsetWidth, frame.offsetWidth, frame.offsetHeight]
  })`)
  for (const [i, [open, , width]] of LAYOUTS.entries()) t.same(sizes[i], [width, width, 320], open)
})
