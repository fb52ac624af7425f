import { whoAmI } from './shell.js'

const byId = (id) => document.getElementById(id)
const iframe = byId('iframe')

/** As in ToolJet's documentation. */
async function openApp (email, appId) {
  const response = await fetch('/api/get-tooljet-url', {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ email, appId }),
  })
  const data = await response.json()
  if (!response.ok) return show('error', `${response.status} ${data.code ?? data.error}: ${data.message}`)
  iframe.src = data.redirectUrl
  show('open', `${response.status} OK, a link for ${email} (${data.source})`)
}

function show (state, text) {
  byId('stage').dataset.state = state === 'open' ? 'open' : 'idle'
  byId('reply').dataset.state = state
  byId('reply').textContent = text
  if (state !== 'open') iframe.removeAttribute('src')
}

const { email, emails, apps } = await whoAmI()
byId('emails').append(...emails.map((other) => new window.Option(other === email ? `${other} (you)` : other, other, other === email, other === email)))
byId('app-ids').append(...apps.map(({ name, appId }) => new window.Option(name, appId)))
byId('ask').onsubmit = (event) => {
  event.preventDefault()
  const { email, appId } = Object.fromEntries(new FormData(event.target))
  openApp(email, appId).catch(() => show('error', 'The portal does not answer.'))
}
