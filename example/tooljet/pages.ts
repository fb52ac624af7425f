const STYLE = `
  :root { color-scheme: light dark; --line: #d7dbe3; --ink: #1c2430; --soft: #5c6675; --bar: #3e63dd; --paper: #fff; }
  @media (prefers-color-scheme: dark) { :root { --line: #343c49; --ink: #e7ebf2; --soft: #9aa5b5; --bar: #7d9bff; --paper: #161b22; } }
  body { margin: 0; padding: 24px; font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); }
  h1 { font-size: 20px; margin: 0 0 4px; } p { color: var(--soft); margin: 0 0 20px; }
  table { width: 100%; border-collapse: collapse; margin-bottom: 24px; }
  th, td { text-align: left; padding: 8px; border-bottom: 1px solid var(--line); } td:last-child, th:last-child { text-align: right; }
  svg { width: 100%; height: 140px; } rect { fill: var(--bar); } text { fill: var(--soft); font-size: 11px; }
  button { font: inherit; padding: 6px 14px; border-radius: 6px; border: 1px solid var(--line); background: none; color: inherit; cursor: pointer; }`

const page = (title: string, body: string, script: string): string => `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>${title}</title><style>${STYLE}</style></head>
<body>${body}<script>${script}</script></body></html>`

/** Opens a session for the token of its URL, tells the parent of some failures, and is silent about the others. */
export function embedPage (): string {
  return page('ToolJet', '<p id="state">Loading embedded app...</p>', `
    const tell = (error, message) => parent.postMessage({ type: 'TJ_EMBED_APP_LOGOUT', error, message }, '*')
    async function open () {
      if (self === top) { document.getElementById('state').textContent = 'This page only works inside an iframe.'; return }
      const appId = location.pathname.split('/')[2]
      const accessToken = new URLSearchParams(location.search).get('personal-access-token')
      if (!appId || !accessToken) return tell(400, 'Missing token or app')
      let reply
      try {
        reply = await fetch('/api/ext/users/session', {
          method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ appId, accessToken }),
        })
      } catch { return tell(500, 'Network error') }
      const body = await reply.json().catch(() => ({}))
      if (reply.status === 401 || reply.status === 403) return tell(reply.status, body.message)
      if (!reply.ok) return
      window.name = body.signedPat
      location.replace('/applications/' + appId)
    }
    open()`)
}

/** Looks like a small internal tool, and shows whose session it is. */
export function appPage (): string {
  return page('ToolJet app', `
    <main hidden>
      <h1 id="name"></h1><p>Signed in to ToolJet as <b id="user"></b> &middot; <button id="logout">Log out</button></p>
      <table><thead><tr><th>Customer</th><th>Stage</th><th>Value</th></tr></thead><tbody id="rows"></tbody></table>
      <svg viewBox="0 0 480 140" role="img" aria-label="Value by month" id="chart"></svg>
    </main>`, `
    const rows = [['Northwind', 'Won', 18400], ['Contoso', 'Offer', 9200], ['Fabrikam', 'Talks', 12750], ['Adventure Works', 'Offer', 6100]]
    const months = [['Jun', 42], ['Jul', 58], ['Aug', 51], ['Sep', 73], ['Oct', 88], ['Nov', 96]]
    const el = (id) => document.getElementById(id)
    const session = () => fetch('/api/session', { headers: { tj_auth_token: window.name } })
    async function show () {
      const reply = await session()
      if (!reply.ok) return location.replace('/login')
      const { email, app } = await reply.json()
      el('name').textContent = app.name
      el('user').textContent = email
      for (const cells of rows) {
        const tr = el('rows').insertRow()
        for (const cell of cells) tr.insertCell().textContent = typeof cell === 'number' ? '$' + cell.toLocaleString('en') : cell
      }
      el('chart').innerHTML = months.map(([month, n], i) =>
        '<rect x="' + (i * 80 + 12) + '" y="' + (116 - n) + '" width="56" height="' + n + '" rx="4"></rect><text x="' + (i * 80 + 28) + '" y="134">' + month + '</text>').join('')
      document.querySelector('main').hidden = false
      setInterval(async () => { if (!(await session()).ok) location.reload() }, 5000)
    }
    el('logout').onclick = () => { parent.postMessage({ type: 'TJ_EMBED_APP_LOGOUT' }, '*'); window.name = ''; location.replace('/login') }
    show()`)
}

export function loginPage (): string {
  return page('ToolJet login', '<h1>Sign in to ToolJet</h1><p>An embedded app should never show this page.</p>', '')
}
