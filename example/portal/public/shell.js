/** Pages besides the apps, as the navigation shows them. */
const PAGES = [
  { href: '/snippet', name: 'ToolJet’s snippet', short: 'Snippet', glyph: '</>' },
  { href: '/admin/audit', name: 'Audit log', short: 'Audit', glyph: '≡', forAdmin: true },
]

/** Made of elements, never of HTML text: whatever a name holds stays text. */
export function make (tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties)
  made.append(...children)
  return made
}

/**
 * Puts the portal's header and navigation around the page's own content.
 * @returns who is signed in, and what they may see: { email, name, isAdmin, apps, emails }
 */
export async function openShell () {
  const response = await fetch('/api/me').catch(() => undefined)
  if (response?.status === 401) {
    window.location.replace('/sign-in')
    return new Promise(() => {}) // this page is about to go
  }
  if (!response?.ok) {
    document.querySelector('main').replaceChildren(make('p', { className: 'soft', role: 'status' }, 'The portal does not answer. Reload this page to try again.'))
    throw new Error('no answer from /api/me')
  }
  const me = await response.json()
  document.body.prepend(make('a', { className: 'skip', href: '#content' }, 'Skip to the content'), header(me), navigation(me))
  window.addEventListener('hashchange', markCurrent)
  markCurrent()
  return me
}

function header ({ name, email }) {
  const avatar = make('span', { className: 'avatar', ariaHidden: 'true' }, name.slice(0, 1).toUpperCase())
  const button = make('button', { className: 'account', type: 'button' }, avatar, make('span', { className: 'account-name' }, name))
  const menu = make('div', { className: 'menu', id: 'account-menu', popover: 'auto' },
    make('p', {}, make('strong', {}, name)),
    make('p', { className: 'soft', id: 'email' }, email),
    make('form', { method: 'post', action: '/sign-out' }, make('button', { className: 'button' }, 'Sign out')))
  button.popoverTargetElement = menu
  const brand = make('a', { className: 'brand', href: '/' }, make('img', { src: '/assets/icon.svg', alt: '', width: 28, height: 28 }), 'Acme Portal')
  return make('header', { className: 'top' }, brand, button, menu)
}

function navigation ({ apps, isAdmin }) {
  const link = ({ href, name, short = name, glyph }) => make('li', {}, make('a', { href, title: name },
    make('span', { className: `glyph ${glyph === '' ? 'tiles' : ''}`, ariaHidden: 'true' }, glyph),
    make('span', { className: 'long' }, name), make('span', { className: 'short', ariaHidden: 'true' }, short)))
  const links = [
    { href: '/#overview', name: 'Overview', glyph: '' },
    ...apps.map(({ alias, name }) => ({ href: `/#${alias}`, name, short: name.split(' ')[0], glyph: name.slice(0, 1).toUpperCase() })),
    ...PAGES.filter(({ forAdmin }) => isAdmin || !forAdmin),
  ]
  return make('nav', { className: 'side', ariaLabel: 'Portal' }, make('ul', {}, ...links.map(link)))
}

/** The address says where one is: reload and "back" keep it. */
function markCurrent () {
  const { pathname, hash, origin } = window.location
  if (hash === '#content') return
  const here = pathname === '/' ? `${origin}/${hash || document.querySelector('nav a[href^="/#"]:not([href="/#overview"])').hash}` : origin + pathname
  for (const link of document.querySelectorAll('nav a')) {
    if (link.href === here) link.setAttribute('aria-current', 'page')
    else link.removeAttribute('aria-current')
  }
}
