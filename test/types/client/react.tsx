import { mountTooljetApp, strings, type TooljetEmbedElement, type TooljetEmbedState } from 'fastify-tooljet-embed/client'

/* Compiled and never run: what the types let through, and what they do not. */

export const app = <tooljet-embed app='sales' frame-title='Sales' height={600} loading='lazy' className='app' strings={{ loading: 'Wird geöffnet…' }} ref={(element) => element?.reload()} />
export const listening = <tooljet-embed app='sales' onfatal={({ detail }) => detail.code.trim()} onready={(event) => event.detail.expiresIn.toFixed()} />
export const waiting = <tooljet-embed app='sales' strings={{ soon: 'Gleich.' }} onqueued={({ detail }) => [detail.position.toFixed(), detail.etaSeconds?.toFixed()]} />
export const bearer = <tooljet-embed app='sales' credentials='omit' headers={async () => ({ authorization: 'Bearer x' })} fetch={fetch} onexpired={({ detail }) => detail.reason === 'logout'} />
// @ts-expect-error: a header is a string
export const number = <tooljet-embed app='sales' headers={{ 'x-csrf-token': 1 }} />
// @ts-expect-error: no such mode
export const mode = <tooljet-embed app='sales' credentials='all' />
// @ts-expect-error: the ticket is told to nobody
export const told = <tooljet-embed onqueued={({ detail }) => detail.ticket} />
// @ts-expect-error: an event without a URL
export const deaf = <tooljet-embed onready={({ detail }) => detail.redirectUrl} />
// @ts-expect-error: such a value there is not
export const wrong = <tooljet-embed loading='soon' />

export const byName: TooljetEmbedElement | null = document.querySelector('tooljet-embed')
byName?.addEventListener('error', ({ detail }) => detail.retryAfter?.toFixed())
byName?.addEventListener('beforerenew', (event) => { if (event.detail.expiresIn > 5) event.preventDefault() })
byName?.addEventListener('click', (event) => event.clientX)
// @ts-expect-error: an event without a URL
byName?.addEventListener('ready', ({ detail }) => detail.redirectUrl)

strings.retry = 'Noch einmal'
const { element, destroy } = mountTooljetApp(document.body, { appId: '8ba8bf0e', on: { ready: ({ detail }) => detail.source } })
element.headers = { 'x-csrf-token': 'x' }
export const states: TooljetEmbedState[] = ['loading', 'queued', 'ready', 'error', 'fatal', 'signed-out']
export const made: TooljetEmbedElement = element
destroy()
// @ts-expect-error: no such option
mountTooljetApp(document.body, { application: 'sales' })
