/** Made of elements, never of HTML text: whatever a name holds stays text. */
export function make (tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties)
  made.append(...children)
  return made
}

/** A time in the reader's zone as `2026-11-26 10:15:03.120`, to take parts of. */
export function localTime (ms) {
  return new Date(ms - new Date(ms).getTimezoneOffset() * 60_000).toISOString().replace('T', ' ').slice(0, -1)
}

/** A time in the reader's zone, with UTC on hover. @param children how it is shown */
export function timeElement (ms, ...children) {
  const utc = new Date(ms).toISOString()
  return make('time', { dateTime: utc, title: `${utc.replace('T', ' ').slice(0, -1)} UTC` }, ...children)
}

/** @returns who is signed in, and what they may see: { email, name, isAdmin, apps, emails } */
export async function whoAmI () {
  const response = await fetch('/api/me').catch(() => undefined)
  if (response?.status === 401) {
    window.location.replace('/sign-in')
    return new Promise(() => {}) // this page is about to go
  }
  if (!response?.ok) {
    document.querySelector('main').replaceChildren(make('p', { className: 'soft', role: 'status' }, 'The portal does not answer. Reload this page to try again.'))
    throw new Error('no answer from /api/me')
  }
  return response.json()
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

window.addEventListener('hashchange', markCurrent)
markCurrent()
