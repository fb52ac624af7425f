import { at, type Facts, type Violation } from './facts.js'
import type { EventRecord, ProcessRecord, RequestRecord } from './history.js'

/** Promise 4: each answer has its event, and each event is in the stream once and in its order. */
export function * checkAudit (facts: Facts): Generator<Violation> {
  const { processes, requests, stream } = facts.history
  const places = new Map<string, number>()
  for (const [place, { mac, seq, instance }] of stream.entries()) {
    if (places.has(mac!)) yield { promise: '4 twice', what: `seq ${seq} of ${instance} is in the stream twice` }
    places.set(mac!, place)
  }
  for (const process of processes) {
    yield * checkStream(facts, process, places)
    yield * checkAnswers(process, requests.filter((request) => request.process === process.name))
  }
}

function * checkStream (facts: Facts, { name, events, crashedAt }: ProcessRecord, places: Map<string, number>): Generator<Violation> {
  const written = events.filter(({ fields }) => places.has(fields['mac']!))
  for (const [i, { fields }] of written.entries()) {
    const before = written[i - 1]?.fields
    if (before !== undefined && places.get(before['mac']!)! > places.get(fields['mac']!)!) {
      yield { promise: '4 order', what: `seq ${fields['seq']} of ${name} is in the stream before seq ${before['seq']}` }
    }
  }
  const { end } = facts.history
  // Excused: what Redis has lost; the last events of a process that crashed, or that had no Redis until the end.
  const last = crashedAt !== undefined || facts.wasBlind(name, end - 5000, end) ? written.at(-1) : events.at(-1)
  for (const event of events.slice(0, last === undefined ? 0 : events.indexOf(last))) {
    if (places.has(event.fields['mac']!) || event.isLost === true || facts.lost(event.at, end)) continue
    yield { promise: '4 lost', what: `seq ${event.fields['seq']} of ${name}, of ${at(event.at)}, is not in the stream` }
  }
}

function * checkAnswers ({ name, events }: ProcessRecord, requests: RequestRecord[]): Generator<Violation> {
  const byRequest = new Map<string, EventRecord[]>()
  for (const event of events) {
    const id = event.fields['request_id']
    if (id !== undefined) byRequest.set(id, [...byRequest.get(id) ?? [], event])
  }
  for (const { id, answer, code } of requests) {
    if (code === 'TOOLJET_EMBED_RATE_LIMITED' || (answer === undefined && code === undefined)) continue
    const own = byRequest.get(String(id)) ?? []
    const tells = own.length === 1 && (answer === undefined ? own[0]!.fields['code'] === code : own[0]!.fields['event'] === `url.${answer.source}` && own[0]!.fields['url_id'] === answer.urlId)
    if (!tells) yield { promise: '4 answers', what: `request ${id} at ${name} has ${own.length} events: ${own.map(({ fields }) => `${fields['event']} ${fields['code'] ?? ''}`).join(', ')}` }
  }
}
