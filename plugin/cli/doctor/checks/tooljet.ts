import { isEmbedError } from '../../../errors.js'
import { MINT_PATH } from '../../../tooljet/client.js'
import { proxyOf } from '../../../tooljet/pools.js'
import { readReply, type Reply } from '../../../tooljet/replies.js'
import { findingsOf, type Finding, type Findings } from '../finding.js'
import { NoAnswer, type ToolJetCalls } from '../tooljet-calls.js'

const { fine, note, problem, unreachable } = findingsOf('tooljet')

const NOBODYS_APP = '00000000-0000-4000-8000-000000000000'
const CLOCK_MS = 5000
const GATEWAY_STATUSES = new Set([502, 503, 504])
const LOOPBACK = /^(?:localhost|127(?:\.\d+){3}|\[::1\])$/

/** Checks whether this is a ToolJet that mints for this token, by a mint without a user, which mints nothing. @returns whether it is */
export async function * examineToolJet (calls: ToolJetCalls, url: string, embedOrigins: readonly string[]): AsyncGenerator<Finding, boolean> {
  const { protocol, hostname, host } = new URL(url)
  if (protocol === 'http:' && !LOOPBACK.test(hostname)) yield note('https', 'ToolJet is called without TLS: the token and the PATs can be read on the way', 'use https:// in TOOLJET_URL, or keep both in one private network')
  const proxy = proxyOf(url)
  if (proxy !== undefined) yield note('proxy', `ToolJet is called through the proxy ${proxy.host}`, 'NO_PROXY names hosts that are called without')
  const began = performance.now()
  let reply: Reply
  try {
    reply = await calls.mint({ appId: NOBODYS_APP, patExpiry: 60, sessionExpiry: 1 })
  } catch (error) {
    if (!(error instanceof NoAnswer)) throw error
    yield unreachable('address', `${host}: ${error.message}`, error.remedy)
    return false
  }
  const wrong = await refusalOf(calls, url, reply)
  yield wrong ?? fine('token', `${host} answers in ${Math.round(performance.now() - began)} ms, has the external API and accepts the token`)
  yield * clockOf(reply)
  if (wrong?.level === 'problem') return false
  yield * pageOf(calls, url, embedOrigins)
  return wrong === undefined
}

/** The problem with the reply to a mint without a user; a refusal because the user is missing is no problem. */
async function refusalOf (calls: ToolJetCalls, url: string, reply: Reply): Promise<Finding | undefined> {
  const { status } = reply
  try {
    readReply(reply, [])
  } catch (error) {
    if (!isEmbedError(error)) throw error
    const { code, remedy } = error
    if (code === 'TOOLJET_EMBED_BAD_REQUEST' || code === 'TOOLJET_EMBED_APP_NOT_FOUND' || code === 'TOOLJET_EMBED_USER_NOT_FOUND') return undefined
    if (code === 'TOOLJET_EMBED_BUSY') return note('token', `it accepts no call at present (status ${status}): the token, users and apps were not looked at`, laterThan(reply))
    if (status >= 300 && status < 400) return redirection(reply, url)
    if (status === 200 || status === 201) return problem('address', 'what answers is no API: a web page, maybe of ToolJet\'s front end', 'set TOOLJET_URL to the address of ToolJet\'s server, where /api is')
    if (status === 404 && url.endsWith('/api')) return problem('address', 'there is no external API at TOOLJET_URL', 'leave "/api" out at its end')
    if (code === 'TOOLJET_EMBED_MISCONFIGURED') return problem('token', `it refuses this server (status ${status})`, remedy)
    if (GATEWAY_STATUSES.has(status)) return problem('server', `a gateway in front of it answers with status ${status}`, `is ToolJet up, and does the gateway reach it? ${laterThan(reply)}`)
    if (status >= 500) return problem('server', `it answers with status ${status}`, 'see ToolJet\'s own log')
    return problem('address', `it answers with status ${status}, as no ToolJet does`, 'is TOOLJET_URL the address of ToolJet\'s server?')
  }
  return problem('address', 'it mints for nobody', 'is TOOLJET_URL the address of ToolJet\'s server?')
}

function redirection ({ status, headers: { location } }: Reply, url: string): Finding {
  const target = typeof location === 'string' && URL.canParse(location, url) ? new URL(location, url) : undefined
  const base = target?.pathname.endsWith(MINT_PATH) ? target.pathname.slice(0, -MINT_PATH.length) : undefined
  if (target !== undefined && base !== undefined) return problem('address', `it redirects (status ${status}) to ${target.origin}${base}`, 'set TOOLJET_URL to that address: redirects are not followed')
  return problem('address', `it redirects (status ${status})${target === undefined ? '' : ` to ${target.origin}${target.pathname}`}`, 'is that where an access proxy lets people sign in? Option tooljet.headers takes its service token; else set TOOLJET_URL to the address of ToolJet\'s server')
}

function laterThan ({ headers: { 'retry-after': after } }: Reply): string {
  return `call again later${after === undefined ? '' : `: Retry-After is ${String(after)}`}`
}

function * clockOf ({ headers: { date } }: Reply): Generator<Finding> {
  const skewMs = Date.parse(String(date)) + 500 - Date.now() // whole seconds, cut off
  if (Math.abs(skewMs) < CLOCK_MS) yield fine('clock', 'its clock and this machine\'s are the same')
  else if (!Number.isNaN(skewMs)) yield problem('clock', `its clock is ${Math.round(Math.abs(skewMs) / 1000)} s ${skewMs > 0 ? 'ahead of' : 'behind'} this machine's`, 'let both follow a time server')
}

/** Whether browsers may show the opening page in a frame. */
async function * pageOf (calls: ToolJetCalls, url: string, embedOrigins: readonly string[]): Findings {
  const own = new URL(url)
  for (const origin of embedOrigins) {
    // of a ToolJet below a path the front end is there, too, or at the root
    const places = origin === own.origin ? [...new Set([url.replace(/\/+$/, ''), origin])] : [origin]
    let reply!: Reply
    try {
      for (const place of places) {
        reply = await calls.page(`${place}/embed-apps/${NOBODYS_APP}`)
        if (isPage(reply)) break
      }
    } catch (error) {
      if (!(error instanceof NoAnswer)) throw error
      yield problem('page', `${origin}, where users get the app from: ${error.message}`, error.remedy)
      continue
    }
    const { status, headers } = reply
    const { forbids, ancestors } = frameRuleOf(headers)
    if (forbids !== undefined) yield problem('frame', `the page at ${origin} may not be shown in a frame (${forbids})`, 'let the proxy in front of ToolJet leave that header out, or name your portal\'s origin in frame-ancestors')
    else if (status === 429 || GATEWAY_STATUSES.has(status)) yield note('page', `${origin} gives no page at present (status ${status})`, laterThan(reply))
    else if (!isPage(reply)) yield problem('page', `there is no page at ${origin}/embed-apps (status ${status})`, 'set TOOLJET_EMBED_ORIGINS to the origin of ToolJet\'s front end')
    else {
      yield fine('page', `${origin} has the page for frames`)
      if (ancestors !== undefined) yield note('frame', `only pages of ${ancestors} may show it in a frame`, 'is the origin of your portal among them, spelled as browsers show it? else name it in frame-ancestors')
    }
  }
}

function isPage ({ status, headers }: Reply): boolean {
  return status < 400 && String(headers['content-type']).includes('html')
}

/** What browsers make of the headers. @returns why no page may show it in a frame, or which pages may where not all do */
function frameRuleOf (headers: Reply['headers']): { forbids?: string, ancestors?: string } {
  const rules = ancestorsIn(headers['content-security-policy'])
  if (rules.length === 0) {
    const option = listed(headers['x-frame-options']).find((option) => /^(?:deny|sameorigin)$/i.test(option)) // others are ignored
    return option === undefined ? {} : { forbids: `X-Frame-Options: ${option}` }
  }
  const forbids = rules.find((sources) => sources.every((source) => /^'(?:none|self)'$/i.test(source)))
  if (forbids !== undefined) return { forbids: `Content-Security-Policy: frame-ancestors ${forbids.join(' ') || "'none'"}` }
  const ancestors = rules.filter((sources) => !sources.includes('*')).map((sources) => sources.join(' ')).join(', and ')
  return ancestors === '' ? {} : { ancestors }
}

/** The sources of each policy that has some; all of them hold. */
function ancestorsIn (header: Reply['headers'][string]): string[][] {
  return listed(header).flatMap((policy) => {
    const directives = policy.split(';').map((directive) => directive.trim().split(/\s+/))
    const rule = directives.find(([name]) => name!.toLowerCase() === 'frame-ancestors')
    return rule === undefined ? [] : [rule.slice(1)]
  })
}

/** A header that may be there more than once. */
function listed (header: Reply['headers'][string]): string[] {
  return [header ?? []].flat().flatMap((line) => line.split(',')).map((part) => part.trim())
}
