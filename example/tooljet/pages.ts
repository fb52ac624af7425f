const STYLE = `
  :root { color-scheme: light dark; --line: #d7dbe3; --ink: #1c2430; --soft: #5c6675; --bar: #3e63dd; --paper: #fff; }
  @media (prefers-color-scheme: dark) { :root { --line: #343c49; --ink: #e7ebf2; --soft: #9aa5b5; --bar: #7d9bff; --paper: #161b22; } }
  body { margin: 0; padding: 24px; font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); }
  h1 { font-size: 20px; margin: 0 0 4px; } h2 { font-size: 15px; margin: 0 0 8px; } p { color: var(--soft); margin: 0 0 20px; }
  table { width: 100%; border-collapse: collapse; margin-bottom: 24px; }
  th, td { text-align: left; padding: 8px; border-bottom: 1px solid var(--line); } td:last-child, th:last-child { text-align: right; }
  svg { width: 100%; height: 140px; } rect { fill: var(--bar); } text { fill: var(--soft); font-size: 11px; text-anchor: middle; }
  button { font: inherit; padding: 0; border: 0; background: none; color: var(--soft); text-decoration: underline; cursor: pointer; }`

/** How the pages of a stand-in behave. */
export interface PageSettings {
  /** Path that the pages' relative URLs start from, with a slash at its end. */
  basePath: string
  /** Of the posts to the parent: older generations sent no `type`, and nothing at a log-out. */
  messages: 'typed' | 'untyped'
  /** Milliseconds after which an image of the opening page comes; 0: there is none. */
  lateLoadMs: number
  /** The same of an app's page. */
  appLoadMs: number
}

/** What an app's page shows. */
export type Demo = keyof typeof DEMOS

const DEMOS = {
  deals: {
    columns: ['Customer', 'Stage', 'Value'],
    rows: [['Northwind', 'Won', '$18,400'], ['Contoso', 'Offer', '$9,200'], ['Fabrikam', 'Talks', '$12,750'], ['Adventure Works', 'Offer', '$6,100']],
    chart: 'Deals won by month, in thousands',
    bars: [['Jun', 42], ['Jul', 58], ['Aug', 51], ['Sep', 73], ['Oct', 88], ['Nov', 96]],
  },
  stock: {
    columns: ['Item', 'Warehouse', 'In stock'],
    rows: [['Label rolls', 'Graz', '12'], ['Pallet wrap', 'Graz', '31'], ['Carton 40 × 30', 'Linz', '480'], ['Packing tape', 'Linz', '1,260'], ['Bubble foil', 'Wels', '54']],
    chart: 'Low stock: percent of the minimum that is left',
    bars: [['Label rolls', 24], ['Pallet wrap', 62], ['Bubble foil', 90]],
  },
} satisfies Record<string, { columns: string[], rows: string[][], chart: string, bars: [string, number][] }>

const EXPIRED = 'Your pat is expired. Open the app again, or ask your administrator.'

function page ({ basePath, messages }: PageSettings, title: string, body: string, script: string): string {
  const type = messages === 'typed' ? "type: 'TJ_EMBED_APP_LOGOUT', " : ''
  return `<!doctype html>
<html lang="en"><head><base href="${basePath}"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>${title}</title><style>${STYLE}</style></head>
<body>${body}<script>
const tell = (error, message) => parent.postMessage({ ${type}error, message }, '*')
${script}</script></body></html>`
}

/** One that comes late holds up the `load` of its page. */
function image (name: 'opening' | 'app', ms: number): string {
  return ms === 0 ? '' : `<img src="assets/${name}.svg" alt="" hidden>`
}

/** Opens a session for the token of its URL, tells the parent of some failures, and is silent about the others. */
export function embedPage (settings: PageSettings): string {
  return page(settings, 'ToolJet', `<p id="state">Loading embedded app...</p>${image('opening', settings.lateLoadMs)}`, `
    async function open () {
      if (self === top) { document.getElementById('state').textContent = 'This page only works inside an iframe.'; return }
      const appId = location.pathname.split('/').at(-1)
      const accessToken = new URLSearchParams(location.search).get('personal-access-token')
      if (!appId || !accessToken) return tell(400, 'There is no token, or no app')
      try {
        const reply = await fetch('api/ext/users/session', {
          method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ appId, accessToken }),
        })
        if (reply.status === 401 || reply.status === 403) return tell(reply.status, ${JSON.stringify(EXPIRED)})
        if (!reply.ok) return
        window.name = (await reply.json()).signedPat
        location.href = 'applications/' + appId
      } catch { tell(500, 'Network error') }
    }
    open()`)
}

/** Looks like a small internal tool, and shows whose session it is. @param workspace whose login page it ends at */
export function appPage (settings: PageSettings, demo: Demo, workspace: string): string {
  const { columns, rows, chart, bars } = DEMOS[demo]
  const width = 480 / bars.length
  return page(settings, 'ToolJet app', `
    <main hidden>
      <h1 id="name"></h1><p>Signed in to ToolJet as <b id="user"></b> &middot; <button id="logout">Close my ToolJet session</button></p>
      <table><thead><tr>${columns.map((name) => `<th>${name}</th>`).join('')}</tr></thead>
      <tbody>${rows.map((cells) => `<tr>${cells.map((cell) => `<td>${cell}</td>`).join('')}</tr>`).join('')}</tbody></table>
      <h2>${chart}</h2>
      <svg viewBox="0 0 480 140" role="img" aria-label="${chart}">${bars.map(([name, n], i) => `
        <rect x="${i * width + 12}" y="${116 - n}" width="${width - 24}" height="${n}" rx="4"></rect><text x="${(i + 0.5) * width}" y="134">${name}</text>`).join('')}
      </svg>
    </main>${image('app', settings.appLoadMs)}`, `
    const el = (id) => document.getElementById(id)
    const ask = (path) => fetch(path, { headers: { tj_auth_token: window.name } })
    const leave = () => { location.href = 'login/${workspace}' }
    async function show () {
      const session = await ask('api/session')
      if (!session.ok) return performance.getEntriesByType('navigation')[0].type === 'reload' ? tell(session.status, ${JSON.stringify(EXPIRED)}) : leave()
      const { email, app } = await session.json()
      el('name').textContent = app.name
      el('user').textContent = email
      document.querySelector('main').hidden = false
      const { status } = await ask('api/apps/validate-released-app-access/' + app.id)
      if (status === 501) location.href = 'error/url-unavailable'
      if (status === 403) location.href = 'error/restricted'
      setInterval(async () => {
        const session = await ask('api/session').catch(() => null) // no answer says nothing about the session
        if (session?.ok === false) location.reload()
      }, 5000)
    }
    el('logout').onclick = async () => {
      await ask('api/session/logout').catch(() => {})
      ${settings.messages === 'typed' ? "parent.postMessage({ type: 'TJ_EMBED_APP_LOGOUT' }, '*')" : ''}
      leave()
    }
    show().catch(() => {}) // without a network there is nothing to show`)
}

export function loginPage (settings: PageSettings): string {
  return page(settings, 'ToolJet login', '<h1>Sign in to ToolJet</h1><p>An embedded app should never show this page.</p>', '')
}

export function errorPage (settings: PageSettings): string {
  return page(settings, 'ToolJet', '<h1>This app cannot be opened</h1><p>It has not been released, or your access to it is restricted.</p>', '')
}
