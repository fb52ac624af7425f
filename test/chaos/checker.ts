import type { EventSigner } from '../../plugin/audit/signer.js'
import { verifyAudit, type AuditSource } from '../../plugin/audit/verify.js'
import { auditRows } from './check-audit.js'
import { forgetRows } from './check-forget.js'
import { mintedRows } from './check-minted.js'
import { groupBy } from './group.js'
import { pairOf, tell, type Answer, type Records } from './records.js'
import { Row, type Judged } from './row.js'
import { excusedBy, type Excused } from './windows.js'

/** Two clocks of one machine, and the way from deciding to sending. */
const TOLERANCE_MS = 50
const REMAINING_TOLERANCE_MS = 250
const OVERLAP_TOLERANCE_MS = 20
/** A machine that runs a fleet, its Redis, its ToolJet and its users at once. */
const BUSY_TOLERANCE_MS = 250
/** Calls that were on their way when ToolJet's 429 left it. */
const PAUSE_TOLERANCE_MS = 500

/** Every code and status that README names, and Fastify's own for a body that breaks the schema. */
const DOCUMENTED = new Map(Object.entries({
  UNAUTHENTICATED: 401,
  BAD_REQUEST: 400,
  EMAIL_MISMATCH: 403,
  APP_NOT_ALLOWED: 403,
  RATE_LIMITED: 429,
  USER_NOT_FOUND: 404,
  ACCESS_DENIED: 403,
  APP_NOT_FOUND: 404,
  BUSY: 429,
  MISCONFIGURED: 502,
  BAD_REPLY: 502,
  UNAVAILABLE: 503,
  TIMEOUT: 504,
  REDIS_DOWN: 503,
}).map(([name, status]): [string, number] => [`TOOLJET_EMBED_${name}`, status]))
/** What may go wrong for a user who may open the app, with Redis away or not, without limits. */
const PASSING = new Set(['BUSY', 'BAD_REPLY', 'UNAVAILABLE', 'TIMEOUT'].map((name) => `TOOLJET_EMBED_${name}`))
/** Judges every promise over what a run left behind. */
export async function check (records: Records, signer: EventSigner): Promise<Judged[]> {
  const excused = excusedBy(records)
  const rows = [
    ...answerRows(records, excused),
    ...urlRows(records, excused),
    ...mintedRows(records, excused),
    ...forgetRows(records, excused),
    ...mintRows(records, excused),
    ...processRows(records),
    ...auditRows(records),
    ...await chainRows(records, signer),
  ]
  return rows.map((row) => row.judged)
}

function answerRows ({ answers, lives, limits }: Records, { any, replies, otherThanReplies, lags }: Excused): Row[] {
  const answered = new Row('every ask is answered in time')
  const prompt = new Row('where a reply of Redis is lost, it takes one Redis timeout at the most')
  const coded = new Row('every answer is a URL or a documented code with its status')
  const retry = new Row('Retry-After on every 429 and 503')
  const expected = new Row('a refusal is the right one, and nobody else is refused')
  const recovers = new Row('in calm times everyone gets a URL')
  for (const answer of answers) {
    const { status, code, failure, start, end, expect } = answer
    const endingAt = lives[answer.life]!.ending?.at ?? lives[answer.life]!.exit?.at
    const wasEnding = endingAt !== undefined && end >= endingAt
    // Fastify's own, which no hook of the instance saw
    const isOfHost = wasEnding && status === 503 && code === '' && answer.sentAt === undefined
    answered.judge(failure === undefined ? end - start <= limits.clientTimeoutMs : failure !== 'timeout' && wasEnding, () => tell(answer))
    if (replies.touch(start, end) && !otherThanReplies.touch(start, end) && !wasEnding) {
      prompt.judge(lags.leftOf(start, end) <= limits.promptMs + BUSY_TOLERANCE_MS, () => tell(answer))
    }
    if (status === undefined || isOfHost) continue
    const short = code?.replace('TOOLJET_EMBED_', '')
    coded.judge(status === 200 ? answer.token !== undefined : DOCUMENTED.get(code!) === status, () => tell(answer))
    if (status === 429 || status === 503) retry.judge(Number(answer.retryAfter) >= 1, () => tell(answer))
    const isRight = expect === 'url' ? status === 200 || PASSING.has(code!) : status !== 200 && (short === expect || PASSING.has(code!))
    expected.judge(isRight, () => tell(answer))
    if (expect === 'url' && !wasEnding && !any.touch(start, end)) recovers.judge(status === 200, () => tell(answer))
  }
  return [answered, prompt, coded, retry, expected, recovers]
}

function urlRows (records: Records, { redis, links, any, instances }: Excused): Row[] {
  const { answers, tokens, limits, mints } = records
  const own = new Row('a URL is its user\'s own, for the app asked for')
  const alive = new Row('no URL is sent after its end')
  const remaining = new Row('a reused URL has minRemaining left (calm times)')
  const notDead = new Row('who reports a dead URL gets another one')
  const noLonger = new Row('a URL reported dead is given to nobody (Redis undisturbed)')
  const newest = new Row('a URL is the last one minted (Redis undisturbed)')

  const reported = new Map<string, Answer>()
  const ofPair = groupBy(mints.filter(({ token, at, endedAt }) => token !== undefined && endedAt !== undefined && endedAt - at < limits.timeoutMs - 200), pairOf)

  for (const answer of answers.toSorted((a, b) => a.start - b.start)) {
    if (answer.replaces !== undefined && answer.status === 200 && answer.urlId !== answer.replaces) {
      const before = reported.get(answer.replaces)
      if (before === undefined || before.end > answer.end) reported.set(answer.replaces, answer)
    }
  }
  for (const answer of answers) {
    const token = tokens.get(answer.token ?? '')
    if (answer.status !== 200) continue
    own.judge(token !== undefined && token.email === answer.email && token.appId === answer.appId, () => tell(answer))
    if (answer.replaces !== undefined) notDead.judge(answer.urlId !== answer.replaces, () => tell(answer))
    if (token === undefined) continue
    const sentAt = answer.sentAt ?? answer.start
    alive.judge(token.expiresAt + TOLERANCE_MS >= sentAt, () => `${Math.round(sentAt - token.expiresAt)} ms too late: ${tell(answer)}`)
    if (answer.source === 'reused' && !any.touch(answer.start, answer.end)) {
      const leftMs = token.expiresAt - sentAt
      remaining.judge(leftMs + REMAINING_TOLERANCE_MS >= limits.minRemaining * 1000, () => `${Math.round(leftMs)} ms left: ${tell(answer)}`)
    }
    const report = reported.get(answer.urlId!)
    if (report !== undefined && report.end < answer.start && !redis.touch(report.start, answer.end)) noLonger.judge(false, () => `${tell(answer)}; reported by ${tell(report)}`)
    const last = ofPair.get(pairOf(answer))?.findLast(({ endedAt }) => endedAt! + OVERLAP_TOLERANCE_MS < answer.start)
    if (last === undefined || last.token === answer.token || [redis, links, instances].some((windows) => windows.touch(last.at, answer.end))) continue
    newest.judge((tokens.get(last.token!)?.mintedAt ?? last.at) <= token.mintedAt, () => `${tell(answer)}: minted at ${new Date(token.mintedAt).toISOString()}, another at ${new Date(last.at).toISOString()}`)
  }
  // those that were never given again are the good ones, and were judged by each later answer
  noLonger.count += reported.size
  newest.count += [...ofPair.values()].reduce((sum, { length }) => sum + length, 0)
  return [own, alive, remaining, notDead, noLonger, newest]
}

function mintRows ({ mints, pauses, limits }: Records, { redis, links }: Excused): Row[] {
  const single = new Row('one mint at a time for one user and app (Redis undisturbed)')
  const paused = new Row('ToolJet\'s pause is kept by all (Redis undisturbed)')
  for (const calls of groupBy(mints, pairOf).values()) {
    let before: { at: number, end: number } | undefined
    for (const { email, appId, at, endedAt } of calls.toSorted((a, b) => a.at - b.at)) {
      if (!redis.touch(before === undefined ? at : Math.max(before.at, at - limits.lockMs), at) && !links.touch(at)) {
        single.judge(before === undefined || before.end - at <= OVERLAP_TOLERANCE_MS, () => `${email} ${appId.slice(0, 8)}: a mint from ${new Date(before!.at).toISOString()} to ${new Date(before!.end).toISOString()}, another at ${new Date(at).toISOString()}`)
      }
      const end = Math.min(endedAt ?? Infinity, at + limits.timeoutMs) // its caller has given up by then
      if (before === undefined || end > before.end) before = { at, end }
    }
  }
  for (const { at, seconds } of pauses) {
    const end = at + seconds * 1000
    if (redis.touch(at, end)) continue
    const during = mints.filter((call) => call.at > at + PAUSE_TOLERANCE_MS && call.at < end - TOLERANCE_MS)
    paused.judge(during.length === 0, () => `${during.length} calls, the first ${Math.round(during[0]!.at - at)} ms after a pause of ${seconds} s began at ${new Date(at).toISOString()}`)
  }
  return [single, paused]
}

function processRows ({ lives, limits, leaks }: Records): Row[] {
  const runs = new Row('no instance crashes or ends by itself')
  const ends = new Row('an instance told to stop ends well within its bound')
  const secrets = new Row('no PAT, API token or JWT in a log line')
  for (const { id, slot, crashes, ending, exit } of lives) {
    const bySelf = exit !== undefined && (ending === undefined || exit.at < ending.at)
    runs.judge(crashes.length === 0 && !bySelf, () => `life ${id} of instance ${slot}: ${crashes[0] ?? `ended with ${exit?.code ?? exit?.signal}`}`)
    if (ending?.by !== 'stop') continue
    const tookMs = exit === undefined ? Infinity : exit.at - ending.at
    ends.judge(exit?.code === 0 && tookMs <= limits.stopMs, () => `life ${id} of instance ${slot}: ${exit?.code ?? exit?.signal ?? 'still there'} after ${Math.round(tookMs)} ms`)
  }
  secrets.judge(leaks.length === 0, () => leaks[0]!)
  return [runs, ends, secrets]
}

/** The plugin's own `verify`, on each stretch between two times that Redis forgot everything. */
async function chainRows ({ epochs }: Records, signer: EventSigner): Promise<Row[]> {
  const verified = new Row('verify finds no gap, forgery or duplicate')
  for (const [i, epoch] of epochs.entries()) {
    const { events, problems } = await verifyAudit(sourceOf(epoch), signer)
    verified.count += events
    for (const { kind, instance, detail, id } of problems) {
      if (kind === 'erased' && i > 0) continue // with all that was there
      verified.fail(`${kind} in epoch ${i}, ${instance}, entry ${id}: ${detail}`)
    }
  }
  return [verified]
}

function sourceOf (epoch: Records['epochs'][number]): AuditSource {
  return {
    info: () => Promise.resolve(undefined),
    now: () => Promise.resolve(Date.now()),
    async * pages () {
      for (const { id, fields } of epoch) yield [{ id, flat: Object.entries(fields).flat() }]
    },
  }
}
