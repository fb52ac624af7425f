import { readFileSync } from 'node:fs'
import type { FastifyReply } from 'fastify'
import { WAYS_TO_REDIS } from '../ways-to-redis.js'
import type { PortalApp } from './portal-app.js'
import { isAdmin, type DemoUser } from './users.js'

interface ShellSettings {
  apps: readonly PortalApp[]
  users: readonly DemoUser[]
  /** Whether the portal works with its own memory. */
  isWithoutRedis: boolean
}

/** What stands in `pages/`, with its title. */
const TITLES = {
  'sign-in': 'Sign in',
  apps: 'Apps',
  snippet: 'ToolJet’s snippet',
  audit: 'Audit log',
  'audit-forbidden': 'Not for you',
  'not-found': 'Page not found',
}

type PageName = keyof typeof TITLES

/** Sends a page of the portal, for whoever is signed in. */
export type SendPage = (reply: FastifyReply, name: PageName) => FastifyReply

/** The one layout of all pages: header and navigation for who is signed in, what the portal lacks, and the page's own content. */
export function shell ({ apps, users, isWithoutRedis }: ShellSettings): SendPage {
  const banner = isWithoutRedis ? redisBanner() : ''
  const contents = new Map(Object.keys(TITLES).map((name) => [name, readFileSync(new URL(`pages/${name}.html`, import.meta.url), 'utf8').trimEnd()]))

  return function sendPage (reply, name) {
    const { email } = (reply.request.user ?? {}) as { email?: string }
    const user = email === undefined ? undefined : users.find((user) => user.email === email) ?? { email, name: email }
    return reply.type('text/html; charset=utf-8').send(`<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <title>${TITLES[name]} · Acme Portal</title>
  <link rel="icon" href="/assets/icon.svg" type="image/svg+xml">
  <link rel="stylesheet" href="/assets/portal.css">
  <script type="module" src="/assets/shell.js"></script>
</head>
<body class="${user === undefined ? 'guest' : 'member'}">
<a class="skip" href="#content">Skip to the content</a>
<header class="top">
  <a class="brand" href="/"><img src="/assets/icon.svg" alt="" width="28" height="28">Acme Portal</a>
  ${user === undefined ? '' : account(user)}
</header>
${user === undefined ? '' : navigation(apps, isAdmin(users, user.email))}
${banner}
<main id="content" class="${name}" tabindex="-1">
${contents.get(name)}
</main>
</body>
</html>
`)
  }
}

function account ({ name, email }: Pick<DemoUser, 'name' | 'email'>): string {
  return `<button class="account" type="button" popovertarget="account-menu"><span class="avatar" aria-hidden="true">${escape(name.slice(0, 1).toUpperCase())}</span><span class="account-name">${escape(name)}</span></button>
  <div class="menu" id="account-menu" popover>
    <p><strong>${escape(name)}</strong></p>
    <p class="soft" id="email">${escape(email)}</p>
    <form method="post" action="/sign-out"><button class="button">Sign out</button></form>
  </div>`
}

function navigation (apps: readonly PortalApp[], isAdmin: boolean): string {
  const links = [
    { href: '/#overview', name: 'Overview', short: 'Overview', glyph: '' },
    ...apps.map(({ alias, name }) => ({ href: `/#${alias}`, name, short: name.split(' ')[0]!, glyph: name.slice(0, 1).toUpperCase() })),
    { href: '/snippet', name: 'ToolJet’s snippet', short: 'Snippet', glyph: '</>' },
    ...(isAdmin ? [{ href: '/admin/audit', name: 'Audit log', short: 'Audit', glyph: '≡' }] : []),
  ]
  const items = links.map(({ href, name, short, glyph }) => (
    `<li><a href="${escape(href)}" title="${escape(name)}"><span class="glyph ${glyph === '' ? 'tiles' : ''}" aria-hidden="true">${escape(glyph)}</span><span class="long">${escape(name)}</span><span class="short" aria-hidden="true">${escape(short)}</span></a></li>`))
  return `<nav class="side" aria-label="Portal"><ul>${items.join('')}</ul></nav>`
}

function redisBanner (): string {
  return `<aside class="banner" aria-label="What is missing">
  <p><strong>Redis is missing.</strong> Links and audit events are in the memory of this process only, and go when it ends.</p>
  <details><summary>How to get a Redis</summary>
    <p>Any of these gives one. Then start the portal again.</p>
    <ul>${WAYS_TO_REDIS.map((way) => `<li>${escape(way)}</li>`).join('')}</ul>
  </details>
</aside>`
}

function escape (text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`)
}
