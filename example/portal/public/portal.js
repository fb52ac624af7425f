import { localTime, make, timeElement, whoAmI } from './shell.js'

const main = document.querySelector('main')
const me = await whoAmI()

/** What the embedded app says of itself here; a sentence by the server's code comes before one by its status. */
function sentences (name) {
  return {
    loading: `Opening ${name}…`,
    ready: `${name} is open.`,
    403: `You have no access to ${name}. Ask your ToolJet administrator to let you in.`,
    TOOLJET_EMBED_USER_NOT_FOUND: `There is no ToolJet account for ${me.email}. Ask your ToolJet administrator for an invitation.`,
    TOOLJET_EMBED_APP_NOT_FOUND: `${name} is no longer in ToolJet. Tell the people who run this portal.`,
    '5xx': 'ToolJet cannot be reached.',
  }
}

/** One app with its head; `more` stands beside its name. */
function appCard ({ alias, name }, heading, ...more) {
  const note = make('p', { className: 'soft note' })
  const app = make('tooljet-embed', { strings: sentences(name) })
  app.setAttribute('app', alias)
  app.setAttribute('frame-title', `${name} in ToolJet`)
  app.addEventListener('loading', () => { note.textContent = '' })
  for (const type of ['ready', 'renewed']) app.addEventListener(type, ({ detail }) => note.replaceChildren(...linkNote(detail)))
  app.addEventListener('expired', () => { note.textContent = '' })
  app.addEventListener('fatal', ({ detail }) => { if (detail.status === 401) window.location.assign('/sign-in') })
  return make('section', { className: 'app', ariaLabel: name }, make('div', { className: 'app-head' }, make(heading, {}, name), note, ...more), app)
}

function linkNote ({ source, expiresIn }) {
  const end = Date.now() + expiresIn * 1000
  return [`${source === 'minted' ? 'New link' : 'Link reused'}, good until `, timeElement(end, localTime(end).slice(11, 16))]
}

function reloadButton () {
  return make('button', { className: 'button', type: 'button', onclick: ({ target }) => target.closest('.app').querySelector('tooljet-embed').reload() }, 'Reload')
}

function show () {
  const name = window.location.hash.slice(1)
  if (name === 'content' && main.querySelector('.app')) return // the skip link's
  if (name === 'overview') {
    document.title = 'Overview · Acme Portal'
    const cards = me.apps.map((app) => appCard(app, 'h2', make('a', { className: 'button', href: `#${app.alias}`, ariaLabel: `Open ${app.name}` }, 'Open')))
    main.replaceChildren(make('h1', {}, `Good to see you, ${me.name.split(' ')[0]}`), make('div', { className: 'cards' }, ...cards))
    return
  }
  const app = me.apps.find(({ alias }) => alias === name) ?? me.apps[0]
  document.title = `${app.name} · Acme Portal`
  main.replaceChildren(appCard(app, 'h1', reloadButton()))
}

window.addEventListener('hashchange', show)
show()
