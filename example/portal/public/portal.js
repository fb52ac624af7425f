import { AppFrame } from './app-frame.js'
import { sentenceFor } from './ask.js'

const byId = (id) => document.getElementById(id)
const stage = byId('stage')
const time = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' })

let me, app, countdown

const frame = new AppFrame(byId('frame-place'), (news) => {
  clearInterval(countdown)
  stage.dataset.state = news.state
  stage.setAttribute('aria-busy', String(news.state === 'loading'))
  byId('reload').hidden = news.state !== 'open'
  byId('link-note').textContent = news.state === 'open' ? linkNote(news) : ''
  byId('try-again').hidden = news.state !== 'error' || news.error.status === 401
  byId('sign-in').hidden = news.state !== 'error' || news.error.status !== 401
  byId('status').textContent = statusText(news)
  if (news.state === 'error') holdBack(news.error)
})

function statusText ({ state, error }) {
  if (state === 'loading') return `Opening ${app.name}…`
  if (state === 'open') return `${app.name} is open.`
  return sentenceFor(error, { email: me.email, appName: app.name })
}

function linkNote ({ url, endsAt }) {
  return `${url.source === 'minted' ? 'New link' : 'Link reused'}, good until ${time.format(endsAt)}`
}

/** Asking sooner than a 429 says would be refused again. */
function holdBack ({ status, retryAfter = 60 }) {
  const button = byId('try-again')
  let seconds = status === 429 ? retryAfter : 0
  const show = () => {
    button.disabled = seconds > 0
    button.textContent = seconds > 0 ? `Try again in ${seconds} s` : 'Try again'
    if (seconds-- <= 0) clearInterval(countdown)
  }
  show()
  if (status === 429) countdown = setInterval(show, 1000)
}

/** The address says which app: reload and "back" keep it. */
function openFromAddress () {
  app = me.apps.find(({ alias }) => `#${alias}` === window.location.hash) ?? me.apps[0]
  for (const link of byId('apps').querySelectorAll('a')) {
    if (link.hash === `#${app.alias}`) link.setAttribute('aria-current', 'page')
    else link.removeAttribute('aria-current')
  }
  byId('app-name').textContent = app.name
  document.title = `${app.name} · Acme Portal`
  frame.open(app)
}

function tabFor ({ alias, name }) {
  const link = Object.assign(document.createElement('a'), { href: `#${alias}`, textContent: name })
  const item = document.createElement('li')
  item.append(link)
  return item
}

async function start () {
  const response = await fetch('/api/me').catch(() => undefined)
  if (response?.status === 401) return window.location.replace('/sign-in')
  if (!response?.ok) {
    stage.dataset.state = 'error'
    byId('status').textContent = 'The portal does not answer. Reload this page to try again.'
    return
  }
  me = await response.json()
  byId('email').textContent = byId('email').title = me.email
  byId('audit-link').hidden = !me.isAdmin
  byId('apps').append(...me.apps.map(tabFor))
  byId('try-again').onclick = () => frame.reload()
  byId('reload').onclick = () => frame.reload()
  window.addEventListener('hashchange', openFromAddress)
  openFromAddress()
}

start()
