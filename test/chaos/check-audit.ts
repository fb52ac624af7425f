import type { Answer, Records } from './records.js'
import { Row } from './row.js'

/** What an instance left in the stream and in its log. */
interface Left {
  /** Seq to the event. */
  events: Map<number, Record<string, string>>
  ofRequest: Map<string, Set<number>>
  inStream: Set<number>
  /** Seq. */
  lastInStream: number
  closed: boolean
}

/** Judges that each answer has left one event that tells the truth, and that no event is lost or doubled. */
export function auditRows (records: Records): Row[] {
  const { answers, lives } = records
  const doubled = new Row('no event is in the stream twice')
  const secrets = new Row('no PAT, API token or JWT in an event')
  const left = readAll(records, doubled, secrets)

  const perAnswer = new Row('every answer of an instance that ended well has one event')
  const truthful = new Row('an event tells what was answered')
  const whole = new Row('no event of an instance that ended well is lost (1 to last)')
  const tail = new Row('kill -9 takes the last events only')
  const closed = new Row('an instance that ended well closed its chain')

  for (const life of lives) {
    const { events, lastInStream, closed: isClosed } = left.get(life.instance) ?? nothing()
    // while too many wait for Redis, the log has what is younger than they are
    const last = endedWell(life) ? Math.max(0, ...events.keys()) : lastInStream
    const missing: number[] = []
    for (let seq = 1; seq <= last; seq++) if (!events.has(seq)) missing.push(seq)
    const row = endedWell(life) ? whole : tail
    row.count += last
    for (const seq of missing) row.fail(`life ${life.id} (${life.instance}): seq ${seq} of ${last}`)
    if (endedWell(life)) closed.judge(isClosed, () => `life ${life.id} (${life.instance}): last seq ${last}`)
  }
  for (const answer of answers) {
    if (!leavesEvent(answer)) continue
    const life = lives[answer.life]!
    const { events, ofRequest } = left.get(life.instance) ?? nothing()
    const seqs = [...ofRequest.get(answer.requestId) ?? []]
    if (endedWell(life)) perAnswer.judge(seqs.length === 1, () => `${seqs.length} events of ${answer.requestId}, life ${life.id}: ${answer.status} ${answer.code ?? ''} at ${new Date(answer.end).toISOString()}`)
    for (const seq of seqs) {
      const event = events.get(seq)!
      truthful.judge(tells(event, answer), () => `${JSON.stringify(event)} for ${answer.status} ${answer.code ?? answer.source} ${answer.email}`)
    }
  }
  return [perAnswer, truthful, whole, closed, tail, doubled, secrets]
}

/** How many different events say `url.minted`, by `url_id`. */
export function mintedEvents (records: Records): Map<string, number> {
  const counts = new Map<string, number>()
  for (const { events } of readAll(records).values()) {
    for (const { event, url_id: urlId } of events.values()) {
      if (event === 'url.minted') counts.set(urlId!, (counts.get(urlId!) ?? 0) + 1)
    }
  }
  return counts
}

/** Not a violation: for the table. */
export function takenByKill (records: Records): number {
  const { answers, lives } = records
  const left = readAll(records)
  return answers.filter((answer) => {
    const { instance, ending } = lives[answer.life]!
    return ending?.by === 'kill' && leavesEvent(answer) && left.get(instance)?.ofRequest.has(answer.requestId) !== true
  }).length
}

/** A 401 is the host's to log, and what Fastify says while it closes never came to the plugin. */
function leavesEvent ({ status, code }: Answer): boolean {
  return status !== undefined && status !== 401 && (status === 200 || code?.startsWith('TOOLJET_EMBED_') === true)
}

function endedWell ({ ending, exit }: Records['lives'][number]): boolean {
  return ending?.by === 'stop' && exit?.code === 0
}

function tells (event: Record<string, string>, { email, status, code, source, urlId }: Answer): boolean {
  if (event['email'] !== email) return false
  return status === 200 ? event['event'] === `url.${source}` && event['url_id'] === urlId && event['outcome'] === 'success' : event['code'] === code && event['outcome'] === 'failure'
}

const SECRET = /pat_[0-9a-f]{8,}|eyJ[\w-]{8,}\./

function readAll ({ epochs, logged }: Records, doubled?: Row, secrets?: Row): Map<string, Left> {
  const left = new Map<string, Left>()
  const add = (fields: Record<string, string>): { of: Left, seq: number } => {
    const instance = fields['instance'] ?? ''
    const seq = Number(fields['seq'])
    let of = left.get(instance)
    if (of === undefined) left.set(instance, of = nothing())
    // only what the judging needs: of hundreds of thousands
    of.events.set(seq, { email: fields['email']!, event: fields['event']!, code: fields['code']!, url_id: fields['url_id']!, outcome: fields['outcome']! })
    of.closed ||= fields['event'] === 'audit.closed'
    if (fields['request_id'] !== undefined) {
      const seqs = of.ofRequest.get(fields['request_id'])
      if (seqs === undefined) of.ofRequest.set(fields['request_id'], new Set([seq]))
      else seqs.add(seq)
    }
    return { of, seq }
  }
  for (const epoch of epochs) {
    // an event whose writing Redis could not confirm, and then forgot, is rightly written again
    for (const { inStream } of left.values()) inStream.clear()
    for (const { id, fields } of epoch) {
      const { of, seq } = add(fields)
      doubled?.judge(!of.inStream.has(seq), () => `${fields['instance']} seq ${seq}, entry ${id}`)
      of.inStream.add(seq)
      of.lastInStream = Math.max(of.lastInStream, seq)
      secrets?.judge(!Object.values(fields).some((value) => SECRET.test(value)), () => `entry ${id}`)
    }
  }
  for (const { fields } of logged) add(fields)
  return left
}

function nothing (): Left {
  return { events: new Map(), ofRequest: new Map(), inStream: new Set(), lastInStream: 0, closed: false }
}
