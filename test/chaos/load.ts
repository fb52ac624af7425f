import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import fastifyJwt from '@fastify/jwt'
import Fastify from 'fastify'
import { Agent, request, type Dispatcher } from 'undici'
import { INVENTORY, SALES, type Seed } from '../../example/tooljet/seed.js'
import type { ToolJetStandIn } from '../../example/tooljet/server.js'
import { JWT_SECRET } from '../support/portal.js'
import { now } from './clock.js'
import type { LivingInstance } from './life.js'
import type { Random } from './random.js'
import type { Answer, Records } from './records.js'

const APPS = [SALES, INVENTORY]
const BOTH = Array.from({ length: 30 }, (_, i) => `user${i}@acme.test`)
const ONLY_SALES = ['sales0@acme.test', 'sales1@acme.test', 'sales2@acme.test']
const UNKNOWN = ['nobody0@acme.test', 'nobody1@acme.test']

/** Who there is at the stand-in. */
export const LOAD_SEED: Seed = {
  apps: APPS,
  users: [...BOTH.map((email) => ({ email, apps: APPS.map(({ slug }) => slug) })), ...ONLY_SALES.map((email) => ({ email, apps: [SALES.slug] }))],
}

const TICK_MS = 20
const LAG_MS = 250
const MAX_IN_FLIGHT = 600
const MAX_MINT_UNDER_WAY_MS = 60
/** Tabs that report the same dead URL. */
const TABS = 3

type Ask = Pick<Answer, 'email' | 'appId' | 'expect' | 'replaces'>

/** Known users asking for known apps, at a steady pace whatever the answers are. */
export class Load {
  #inFlight = 0
  #isOver = false
  readonly #agent = new Agent({ connections: 256, headersTimeout: 0, bodyTimeout: 0 })
  readonly #bearers: Map<string, string>
  readonly #pending = new Set<Promise<void>>()

  private constructor (
    private readonly parts: { records: Records, instances: () => LivingInstance[], toolJet: ToolJetStandIn, random: Random, perSecond: number, isLosing: () => boolean },
    bearers: Map<string, string>
  ) {
    this.#bearers = bearers
  }

  static async prepare (parts: Load['parts']): Promise<Load> {
    const signer = Fastify()
    await signer.register(fastifyJwt, { secret: JWT_SECRET })
    return new Load(parts, new Map([...BOTH, ...ONLY_SALES, ...UNKNOWN].map((email) => [email, `Bearer ${signer.jwt.sign({ email })}`])))
  }

  /** Asks until `end()` is called, then waits for what is under way. */
  async run (): Promise<void> {
    const { records, random, perSecond, isLosing } = this.parts
    let due = 0
    for (let last = performance.now(); !this.#isOver;) {
      await sleep(TICK_MS)
      const at = performance.now()
      due = Math.min(due + (at - last) / 1000 * perSecond, perSecond) // what a stall held up is not made up for
      if (at - last > TICK_MS + LAG_MS) records.lags.push({ from: now() - (at - last), to: now() })
      last = at
      for (; due >= 1; due--) {
        if (this.#inFlight >= MAX_IN_FLIGHT) continue
        if (random.chance(isLosing() ? 0.02 : 0.002)) this.#do(this.#forgetAndAsk())
        else this.#do(this.#ask(this.#nextAsk()))
      }
    }
    await Promise.all(this.#pending)
    await this.#agent.destroy()
  }

  end (): void {
    this.#isOver = true
  }

  #do (work: Promise<void>): void {
    this.#inFlight++
    const done = work.finally(() => {
      this.#inFlight--
      this.#pending.delete(done)
    })
    this.#pending.add(done)
  }

  #nextAsk (): Ask {
    const { random } = this.parts
    const appId = random.pick(APPS).id
    const roll = random.next()
    if (roll < 0.01) return { email: random.pick(UNKNOWN), appId, expect: 'USER_NOT_FOUND' }
    if (roll < 0.02) return { email: random.pick(ONLY_SALES), appId: INVENTORY.id, expect: 'ACCESS_DENIED' }
    if (roll < 0.05) return { email: random.pick(ONLY_SALES), appId: SALES.id, expect: 'url' }
    const email = random.pick(BOTH)
    if (roll < 0.06) return { email, appId, expect: 'EMAIL_MISMATCH' }
    if (roll < 0.07) return { email, appId, expect: 'BAD_REQUEST', replaces: 'not an id!' }
    if (roll < 0.075) return { email, appId, expect: 'UNAUTHENTICATED' }
    return { email, appId, expect: 'url' }
  }

  async #ask (ask: Ask, instance = this.#someInstance()): Promise<void> {
    const { records, random, toolJet } = this.parts
    if (instance === undefined) return
    const { url, life } = instance
    // the decorator knows no e-mail of the body, and who is not signed in is refused by the host there
    const via = !['EMAIL_MISMATCH', 'UNAUTHENTICATED'].includes(ask.expect) && random.chance(0.4) ? 'decorator' : 'route'
    const answer: Answer = { requestId: randomUUID(), life: life.id, via, ...ask, start: now(), end: 0 }
    const headers = { 'x-request-id': answer.requestId, ...(ask.expect !== 'UNAUTHENTICATED' && { authorization: this.#bearers.get(ask.email)! }) }
    const named = { appId: ask.appId, ...(ask.replaces !== undefined && { replaces: ask.replaces }) }
    const sent: [string, Partial<Dispatcher.RequestOptions>] = via === 'decorator'
      ? [`${url}/by-decorator?${new URLSearchParams(named).toString()}`, { method: 'GET', headers }]
      : [`${url}/api/get-tooljet-url`, {
          method: 'POST',
          headers: { ...headers, 'content-type': 'application/json' },
          body: JSON.stringify({ ...named, ...(ask.expect === 'EMAIL_MISMATCH' && { email: 'someone.else@acme.test' }) }),
        }]
    await this.#send(sent, answer)
    records.answers.push(answer)

    // as a page does when the frame says that its URL is dead
    if (answer.token === undefined || ask.replaces !== undefined || toolJet.tokens.find(answer.token)?.dead === undefined) return
    for (let tab = random.between(1, TABS); tab > 0 && !this.#isOver; tab--) this.#do(this.#ask({ ...ask, replaces: answer.urlId! }))
  }

  async #send ([url, options]: [string, Partial<Dispatcher.RequestOptions>], answer: Answer): Promise<void> {
    const signal = AbortSignal.timeout(this.parts.records.limits.clientTimeoutMs)
    try {
      const reply = await request(url, { ...options, dispatcher: this.#agent, signal } as Parameters<typeof request>[1])
      const text = await reply.body.text()
      answer.end = now()
      answer.status = reply.statusCode
      if (reply.headers['x-sent-at'] !== undefined) answer.sentAt = Number(reply.headers['x-sent-at'])
      if (reply.headers['retry-after'] !== undefined) answer.retryAfter = String(reply.headers['retry-after'])
      readBody(text, answer)
    } catch (error) {
      answer.end = now()
      delete answer.status
      answer.failure = signal.aborted ? 'timeout' : `${(error as NodeJS.ErrnoException).code ?? (error as Error).message}`
    }
  }

  #someInstance (other?: LivingInstance): LivingInstance | undefined {
    const there = this.parts.instances()
    const others = there.filter((instance) => instance !== other)
    return there.length === 0 ? undefined : this.parts.random.pick(others.length > 0 ? others : there)
  }

  /** Who asks right after a forget has resolved, at that instance or another, gets a URL whose mint began later; so does who asks after one that ran into that mint. */
  async #forgetAndAsk (): Promise<void> {
    const { random } = this.parts
    const email = random.pick(BOTH)
    const app = random.pick(APPS)
    for (let times = random.between(1, 2); times > 0; times--) {
      const instance = this.#someInstance()
      if (instance === undefined || !await this.#forget(instance, email, app)) return
      for (const at of [this.#someInstance(instance), instance]) this.#do(this.#ask({ email, appId: app.id, expect: 'url' }, at))
      await sleep(random.between(0, MAX_MINT_UNDER_WAY_MS))
    }
  }

  /** @returns whether it resolved */
  async #forget ({ url, life }: LivingInstance, email: string, { id, slug }: Seed['apps'][number]): Promise<boolean> {
    const { records, random } = this.parts
    const forget: Records['forgets'][number] = { life: life.id, email, appId: id, start: now(), end: 0 }
    try {
      const reply = await request(`${url}/forget`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ email, ...(random.chance(0.5) ? { appId: id } : { appSlug: slug }) }),
        dispatcher: this.#agent,
        signal: AbortSignal.timeout(records.limits.clientTimeoutMs),
      })
      await reply.body.dump()
      forget.status = reply.statusCode
    } catch {
      // not forgotten, as far as is known
    }
    forget.end = now()
    records.forgets.push(forget)
    return forget.status === 200
  }
}

function readBody (text: string, answer: Answer): void {
  let body: Record<string, unknown> = {}
  try {
    body = JSON.parse(text) as typeof body
  } catch {
    // no code then
  }
  if (answer.status !== 200) {
    answer.code = String(body['code'] ?? '')
    return
  }
  answer.urlId = String(body['urlId'])
  answer.source = String(body['source'])
  const token = URL.canParse(String(body['redirectUrl'])) ? new URL(String(body['redirectUrl'])).searchParams.get('personal-access-token') : null
  if (token !== null) answer.token = token
}
