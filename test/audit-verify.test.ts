import { t as tap, test, type Test } from 'tap'
import { FIELD_NAMES, fieldsOf, type AuditFields } from '../plugin/audit/event.js'
import { entryPagesReadOnly } from '../plugin/audit/entry-pages.js'
import { AuditReader } from '../plugin/audit/reader.js'
import { LogWitness } from '../plugin/audit/log-witness.js'
import { EventSigner, timeOfMac } from '../plugin/audit/signer.js'
import { verifyAudit, type RawEntry } from '../plugin/audit/verify.js'
import { deriveSecretKeys } from '../plugin/crypto/secret-keys.js'
import { API_TOKEN, ANA, CLEO, Portal, releaseRedisAfter } from './support/portal.js'

releaseRedisAfter(tap)

type Entry = [id: string, fields: string[]]
type Found = { kind: string, seq: number | undefined, id: string | undefined }

/** A log of two instances, and what `verify` says of it after a change that goes around the plugin. */
class Log {
  private constructor (readonly portal: Portal, readonly stream: string, readonly entries: Entry[], readonly instance: string) {}

  static async open (t: Test): Promise<Log> {
    const [portal, other] = await Portal.openSeveral(t, 2) as [Portal, Portal]
    for (let i = 0; i < 6; i++) await Promise.all([portal.ask(ANA), other.ask(CLEO)])
    await other.app.close()
    await portal.audit()
    const stream = `${portal.prefix}audit`
    const { audit } = await portal.app.tooljetEmbed.health()
    return new Log(portal, stream, await portal.redis.xrange(stream, '-', '+'), audit.instance)
  }

  /** One of the first instance's events. */
  event (seq: number): Entry {
    return this.entries.find(([, fields]) => valueOf(fields, 'instance') === this.instance && valueOf(fields, 'seq') === String(seq))!
  }

  /** Writes the whole stream anew. */
  async rewrite (entries: Entry[]): Promise<void> {
    await this.portal.redis.del(this.stream)
    for (const [i, [, fields]] of entries.entries()) await this.portal.redis.xadd(this.stream, `${i + 1}-0`, ...fields)
  }

  /** @returns what is wrong with the events; the ids and the indexes are not those of a stream that was written anew */
  async verify (t: Test): Promise<Found[]> {
    const { ok, problems, problemCount } = await this.portal.app.tooljetEmbed.audit.verify()
    t.equal(ok, problems.length === 0)
    t.equal(problemCount, problems.length)
    return problems.filter(({ kind }) => !['index', 'counts', 'moved'].includes(kind)).map(({ kind, seq, id }) => ({ kind, seq, id }))
  }

  /** Writes it anew with a change. */
  async verifyWith (t: Test, change: (entries: Entry[]) => Entry[]): Promise<Found[]> {
    await this.rewrite(change(structuredClone(this.entries)))
    return this.verify(t)
  }

  /** Where an entry is when the stream was written anew. */
  place (seq: number): number {
    return this.entries.indexOf(this.event(seq))
  }
}

function valueOf (fields: string[], name: string): string | undefined {
  const i = fields.findIndex((field, i) => i % 2 === 0 && field === name)
  return i < 0 ? undefined : fields[i + 1]
}

function withValue (fields: string[], name: string, value: string): string[] {
  return fields.with(fields.findIndex((field, i) => i % 2 === 0 && field === name) + 1, value)
}

/** As somebody with that key, and no other lack, would write it. */
function signedBy (key: Buffer, stream: string, fields: string[]): string[] {
  const { mac: _, ...rest } = fieldsOf(fields)
  new EventSigner([key], stream).sign(rest, Date.parse(rest['time']!))
  return Object.entries(rest).flat()
}

test('verify: an untouched stream of several instances holds', async (t) => {
  const [one, other] = await Portal.openSeveral(t, 2) as [Portal, Portal]
  for (let i = 0; i < 5; i++) await Promise.all([one.ask(ANA), other.ask(ANA), other.ask(CLEO)])
  await one.app.close()
  await other.audit()
  const report = await other.app.tooljetEmbed.audit.verify()
  t.match(report, { ok: true, events: 18 })
  t.same(report.instances.map(({ instance: _, ...rest }) => rest).sort((a, b) => a.events - b.events), [
    { events: 7, firstSeq: 1, lastSeq: 7, closed: true, trimmed: false },
    { events: 11, firstSeq: 1, lastSeq: 11, closed: false, trimmed: false },
  ])
  const entries = await one.redis.xrange(`${one.prefix}audit`, '-', '+')
  const times = entries.map(([, fields]) => valueOf(fields, 'time')!).sort()
  t.match(report, { entries: 18, since: times[0], until: times.at(-1), trimmed: 0, problems: [], retention: { retentionMs: 90 * 86_400_000, maxEntries: 1_000_000 } })
  for (const { instance } of report.instances) {
    const own = entries.map(([, fields]) => fieldsOf(fields)).filter((fields) => fields['instance'] === instance)
    t.same(own.map(({ prev }) => prev), [undefined, ...own.slice(0, -1).map(({ mac }) => mac)])
  }
})

test('verify names an event that was deleted', async (t) => {
  const log = await Log.open(t)
  t.same(await log.verify(t), [])
  const [id] = log.event(4)
  await log.portal.redis.xdel(log.stream, id)
  t.same(await log.verify(t), [{ kind: 'gap', seq: 4, id: log.event(5)[0] }, { kind: 'deleted', seq: undefined, id }])
})

test('verify sees that the first or the last event was deleted', async (t) => {
  for (const seq of [1, 7]) {
    const log = await Log.open(t)
    const [id] = log.event(seq)
    await log.portal.redis.xdel(log.stream, id)
    t.match((await log.verify(t)).find(({ kind }) => kind === 'deleted'), { id })
  }
})

test('verify names an event that was changed, in any field, doubled, added or taken away', async (t) => {
  const log = await Log.open(t)
  const place = log.place(4)
  const forged = { kind: 'forged', id: `${place + 1}-0` }
  const with4 = (change: (fields: string[]) => string[]) => log.verifyWith(t, (entries) => entries.with(place, ['', change(entries[place]![1])]))
  for (const field of log.event(4)[1].filter((_, i) => i % 2 === 0)) {
    const value = field === 'seq' ? '04' : field === 'time' ? '2020-01-01T00:00:00.000Z' : 'eve@acme.test'
    t.match((await with4((fields) => withValue(fields, field, value)))[0], forged, field)
    t.match((await with4((fields) => fields.toSpliced(fields.indexOf(field), 2)))[0], forged, `without ${field}`)
    t.match((await with4((fields) => [...fields, field, valueOf(fields, field)!]))[0], forged, `${field} twice`)
  }
  t.match((await with4((fields) => [...fields, 'note', 'all well']))[0], forged)
  const mac = valueOf(log.event(4)[1], 'mac')!
  for (const other of [`${mac}.`, `${mac}.all well`, `${mac} `, ` ${mac}`, mac.replace('.', '..'), mac.replace('.', ' .'), `0${mac}`, mac.toUpperCase()]) {
    t.match((await with4((fields) => withValue(fields, 'mac', other)))[0], forged, `the mac as ${other}`)
  }
  t.match((await with4((fields) => [...fields.slice(2), ...fields.slice(0, 2)]))[0], forged, 'in another order')
})

test('verify names what never was an event of this stream, whoever\'s it seems to be', async (t) => {
  const log = await Log.open(t)
  const after = `${log.entries.length + 1}-0`
  const ownKey = (await deriveSecretKeys(API_TOKEN)).keyFor('audit')
  const last = log.event(7)[1]
  const next = withValue(withValue(last, 'seq', '8'), 'prev', valueOf(last, 'mac')!)
  const verifyPlus = (fields: string[]) => log.verifyWith(t, (entries) => [...entries, ['', fields]])
  t.same(await verifyPlus(signedBy(ownKey, log.stream, next)), [], 'the right key would do')
  const cases: Record<string, string[]> = {
    'another key': signedBy(Buffer.from('another key'), log.stream, next),
    'another stream of the same key': signedBy(ownKey, `${log.stream}2`, next),
    'an invented instance with a mac of garbage': ['event', 'url.minted', 'instance', 'nobody', 'seq', '7', 'schema', '2', 'mac', 'mwx0vmrc.garbage'],
    'an invented instance without a mac': ['event', 'url.minted', 'instance', 'nobody', 'seq', '7'],
    'nothing like an event': ['a', 'b'],
    'schema 1': withValue(next, 'schema', '1'),
    'no seq': signedBy(ownKey, log.stream, withValue(next, 'seq', 'x')),
    'a mac of another time': withValue(last, 'mac', `${(Date.now() - 1e6).toString(36)}.${valueOf(last, 'mac')!.split('.')[1]}`),
  }
  for (const [what, fields] of Object.entries(cases)) t.match(await verifyPlus(fields), [{ kind: 'forged', id: after }], what)
})

test('verify names events out of order', async (t) => {
  const log = await Log.open(t)
  const [three, four, six] = [3, 4, 6].map((seq) => log.place(seq)) as [number, number, number]
  const swapped = await log.verifyWith(t, (entries) => entries.with(three, entries[four]!).with(four, entries[three]!))
  t.same(swapped, [{ kind: 'reordered', seq: 3, id: `${four + 1}-0` }], 'two neighbours')
  const changed = await log.verifyWith(t, (entries) => entries.with(three, entries[four]!).with(four, ['', withValue(entries[three]![1], 'email', 'eve@acme.test')]))
  t.match(changed, [{ kind: 'forged', seq: 3 }, { kind: 'gap', seq: 3 }], 'and one of them changed')
  const late = await log.verifyWith(t, (entries) => entries.toSpliced(three, 1).toSpliced(six, 0, entries[three]!))
  t.match(late, [{ kind: 'reordered', seq: 3 }], 'one too late')
  const first = await log.verifyWith(t, (entries) => entries.filter((entry) => entry !== entries[log.place(1)]).concat([entries[log.place(1)]!]))
  t.match(first.map(({ kind }) => kind), ['reordered', 'erased'], 'the first one last')
})

test('verify names an event that is there twice', async (t) => {
  const log = await Log.open(t)
  const place = log.place(4)
  t.same(await log.verifyWith(t, (entries) => entries.toSpliced(place, 0, entries[place]!)), [{ kind: 'duplicate', seq: 4, id: `${place + 2}-0` }])
  const again = await log.verifyWith(t, (entries) => [...entries, entries[place]!])
  t.same(again, [{ kind: 'duplicate', seq: 4, id: `${log.entries.length + 1}-0` }])
})

test('verify names an event that does not follow the one before it', async (t) => {
  const log = await Log.open(t)
  const ownKey = (await deriveSecretKeys(API_TOKEN)).keyFor('audit')
  const other = signedBy(ownKey, log.stream, withValue(log.event(4)[1], 'email', 'eve@acme.test')) // of a process that was copied
  t.same(await log.verifyWith(t, (entries) => entries.with(log.place(4), ['', other])), [{ kind: 'fork', seq: 5, id: `${log.place(5) + 1}-0` }])
})

test('verify reports several gaps, and what of one came late', async (t) => {
  const log = await Log.open(t)
  const [two, three, four, six] = [2, 3, 4, 6].map((seq) => log.place(seq)) as [number, number, number, number]
  const problems = await log.verifyWith(t, (entries) => [...entries.filter((_, i) => ![two, three, four, six].includes(i)), entries[three]!])
  t.match(problems, [{ kind: 'reordered', seq: 3 }, { kind: 'gap', seq: 2 }, { kind: 'gap', seq: 6 }])
})

test('a key that is not that of the log is told once', async (t) => {
  const log = await Log.open(t)
  const source = { info: async () => undefined, now: async () => Date.now(), async * pages () { yield log.entries.map(([id, flat]) => ({ id, flat })) } }
  const report = await verifyAudit(source, new EventSigner([Buffer.alloc(32)], log.stream))
  t.match(report, { ok: false, events: 0, entries: log.entries.length, problemCount: 1, problems: [{ kind: 'key' }] })
  t.equal(report.problems.length, 1)
})

interface OldLog {
  retention?: string
  junk?: number
  /** When an instance said what it keeps; none: it did not. */
  openedMs?: number | undefined
  instance?: string
}

/** A log of one instance: an event of each of those ages. */
function makeOld (agesMs: readonly number[], { retention = '90d/1000000', junk = 0, openedMs = 0, instance = 'one' }: OldLog = {}, hasOpened = true) {
  const now = Date.now()
  const signer = new EventSigner([Buffer.alloc(32)], 'audit')
  let prev = ''
  const sign = (fields: AuditFields, time: number): string[] => {
    const signed: AuditFields = { time: new Date(time).toISOString(), ...fields }
    signer.sign(signed, time)
    return Object.entries(signed).flat()
  }
  const entries: RawEntry[] = agesMs.map((age, i) => {
    const flat = sign({ event: 'url.reused', instance, seq: String(i + 1), ...(prev !== '' && { prev }), schema: '2' }, now - age)
    prev = flat.at(-1)!
    return { id: `${now - age}-0`, flat }
  })
  if (hasOpened) entries.push({ id: `${now - openedMs}-0`, flat: sign({ event: 'audit.opened', retention, instance: `${instance}-too`, seq: '1', schema: '2' }, now - openedMs) })
  for (let i = 0; i < junk; i++) entries.push({ id: `${now}-${i + 1}`, flat: ['a', 'b'] })
  return { entries, signer, now }
}

function verifyOf (entries: RawEntry[], signer: EventSigner, now: number, removed = 0, retention = {}) {
  return verifyAudit({ info: async () => ({ removed }), now: async () => now, async * pages () { yield entries } }, signer, { retention })
}

/** The same with the first so many gone. */
async function verifyOld (agesMs: readonly number[], gone: number, { options = {}, removed = gone, openedAgain = true, ...log }: OldLog & { options?: object, removed?: number, openedAgain?: boolean } = {}) {
  const { entries, signer, now } = makeOld(agesMs, log, openedAgain)
  return verifyOf(entries.slice(gone), signer, now, removed, options)
}

const HOUR = 3_600_000
const DAY = 24 * HOUR

test('what is gone at the start is judged by the retention that the log tells', async (t) => {
  t.match(await verifyOld([91 * DAY, 90.5 * DAY, HOUR], 2), { ok: true, trimmed: 2, instances: [{ trimmed: true, firstSeq: 3 }, { trimmed: false }] }, 'too old')
  t.match(await verifyOld([91 * DAY, 80 * DAY, HOUR], 2), { ok: false, problems: [{ kind: 'erased', instance: 'one', detail: /seq 1 to 2 are missing/ }] }, 'one was too young, however young the first one is that is left')
  t.match(await verifyOld([3 * HOUR, 2 * HOUR, HOUR], 2), { ok: false, problems: [{ kind: 'erased' }] })
  t.match(await verifyOld([3 * HOUR, 2 * HOUR, HOUR], 2, { retention: '0.05d/1000000' }), { ok: true }, 'less is kept')
  t.match(await verifyOld([3 * HOUR, 2 * HOUR, HOUR], 2, { retention: '90d/2' }), { ok: true }, 'too many')
  t.match(await verifyOld([3 * HOUR, 2 * HOUR, HOUR], 2, { retention: '90d/3' }), { ok: false }, 'not too many: two are left')
  t.match(await verifyOld([3 * HOUR, 2 * HOUR, HOUR], 2, { retention: '90d/3', junk: 1 }), { problems: [{ kind: 'forged' }, { kind: 'erased' }] }, 'nor with junk that came after all that was written')
  t.match(await verifyOld([91 * DAY, HOUR], 1, { retention: '0d/0' }), { ok: false }, 'all is kept')
  t.match(await verifyOld([3 * HOUR, 2 * HOUR, HOUR], 2, { options: { retentionMs: 1.5 * HOUR } }), { ok: true }, 'options come first')
  t.match(await verifyOld([91 * DAY, 90.5 * DAY, HOUR], 2, { options: { retentionMs: 0 } }), { ok: false })
  const untold = await verifyOld([91 * DAY, HOUR], 1, { openedAgain: false })
  t.match(untold, { ok: false, retentionAssumed: true, problems: [{ kind: 'erased', detail: /nothing tells the retention/ }] }, 'not by what is kept by default')
  t.match(await verifyOld([91 * DAY, HOUR], 1, { openedAgain: false, options: { retentionMs: 90 * DAY } }), { ok: true, retentionAssumed: true }, 'nor need the number be told where the age explains it')
  t.match(await verifyOld([91 * DAY, HOUR], 1, { openedAgain: false, options: { retentionMs: 90 * DAY, maxEntries: 0 } }), { ok: true, retentionAssumed: false })
  t.match(await verifyOld([91 * DAY, HOUR], 1, { openedAgain: false, options: { retentionMs: 0, maxEntries: 0 } }), { problems: [{ detail: /trimming does not explain/ }] })
  t.match(await verifyOld([91 * DAY, HOUR], 0, { openedAgain: false }), { ok: true, retentionAssumed: true }, 'nothing is gone')
  t.match(await verifyOld([89 * DAY, HOUR], 1, { openedAgain: false }), { ok: false })
})

test('a full log may have lost what is older than all that it has, and no more', async (t) => {
  const full = { retention: '90d/3' }
  t.match(await verifyOld([3 * HOUR, 2 * HOUR, HOUR, HOUR - 1], 2, full), { ok: true })
  const { entries, signer, now } = makeOld([3 * DAY, 2 * DAY, DAY, DAY - 1], full)
  // an older event that was trimmed is played back in front, and a younger one left out
  const older = makeOld([4 * DAY], { instance: 'old' }).entries[0]!
  const played = [{ ...older, id: `${now}-0` }, ...entries.slice(2).map(({ flat }, i) => ({ id: `${now}-${i + 1}`, flat }))]
  t.match((await verifyOf(played, signer, now)).problems, [{ kind: 'erased', instance: 'one' }])
})

test('what an instance kept that is long over trims nothing younger', async (t) => {
  const { entries, signer, now } = makeOld([3 * HOUR, 2 * HOUR, HOUR], { retention: '90d/1000000' })
  const former = makeOld([], { retention: '0.01d/1', openedMs: 200 * DAY, instance: 'former' }).entries
  const played = [...entries.slice(1), { id: `${now}-1`, flat: former[0]!.flat }]
  t.match((await verifyOf(played, signer, now)).problems, [{ kind: 'erased', instance: 'one' }])
})

/** A log that instances write. */
class Written {
  readonly now = Date.now()
  readonly signer = new EventSigner([Buffer.alloc(32)], 'audit')
  readonly entries: RawEntry[] = []
  readonly #instances = new Map<string, { seq: number, prev: string | undefined }>()

  /** @param ageMs of the event @param idAgeMs of its entry */
  write (instance: string, ageMs: number, { idAgeMs = ageMs, ...more }: { idAgeMs?: number, event?: string, retention?: string, count?: string } = {}): void {
    const { seq, prev } = this.#instances.get(instance) ?? { seq: 1, prev: undefined }
    const time = this.now - ageMs
    const given: Record<string, string | undefined> = { time: new Date(time).toISOString(), event: 'url.reused', ...more, instance, seq: String(seq), prev, schema: '2' }
    const fields: AuditFields = {}
    for (const name of FIELD_NAMES) if (given[name] !== undefined) fields[name] = given[name]
    this.signer.sign(fields, time)
    this.#instances.set(instance, { seq: seq + 1, prev: fields['mac'] })
    this.entries.push({ id: `${this.now - idAgeMs}-${this.entries.length}`, flat: Object.entries(fields).flat() })
  }

  open (instance: string, ageMs: number, retention: string): void {
    this.write(instance, ageMs, { event: 'audit.opened', retention })
  }

  /** With the first so many gone. */
  async problems (gone: number): Promise<(string | undefined)[]> {
    const { problems } = await verifyOf(this.entries.slice(gone), this.signer, this.now, gone)
    return problems.map(({ kind, instance }) => `${kind} ${instance}`)
  }
}

test('a retention of former times trimmed no more than there was when its instance wrote last', async (t) => {
  const log = new Written()
  for (let i = 0; i < 6; i++) log.write('former', (60 - i) * DAY)
  log.open('former', 54 * DAY, '30d/5')
  log.write('former', 53 * DAY)
  log.open('later', 40 * DAY, '90d/1000')
  for (let i = 0; i < 20; i++) log.write('later', (39 - i) * DAY)
  t.same(await log.problems(0), [])
  t.same(await log.problems(3), [], 'five were left')
  t.same(await log.problems(4), ['erased former'], 'so many it kept, and the others were not there yet')
  log.write('former', 14 * DAY)
  t.same(await log.problems(4), [], 'it ran on')

  const aged = new Written()
  for (let i = 0; i < 6; i++) aged.write('former', (60 - 2 * i) * DAY)
  aged.open('former', 48 * DAY, '10d/0')
  aged.open('later', 40 * DAY, '90d/0')
  aged.write('later', HOUR)
  t.same(await aged.problems(2), [], 'they were ten days old when it wrote last')
  t.same(await aged.problems(4), ['erased former'], 'this one came to be so old later')
})

test('what an instance kept is taken from the app\'s log where the stream does not tell it', async (t) => {
  const log = new Written()
  log.open('one', 300 * DAY, '0d/0')
  for (let i = 0; i < 6; i++) log.write('one', (250 - i) * DAY)
  const { entries, signer, now } = log
  const witness = new LogWitness(signer)
  const opened = JSON.stringify({ tooljetEmbedAudit: fieldsOf(entries[0]!.flat) })
  await witness.read((async function * () { yield Buffer.from(`${opened}\n${opened.replace('0d/0', '9d/1')}\n`) })())
  const verify = (witnesses: LogWitness[]) => verifyAudit({ info: async () => undefined, now: async () => now, async * pages () { yield entries.slice(4) } }, signer, { witnesses })
  t.match(await verify([]), { retentionAssumed: true, problems: [{ kind: 'erased', detail: /nothing tells/ }] })
  t.match(await verify([witness]), { retentionAssumed: false, retention: { retentionMs: 0, maxEntries: 0 }, problems: [{ kind: 'erased', detail: /trimming does not explain/ }, { kind: 'missing' }] })
})

test('an instance that does not tell what it keeps is taken to keep what the newest one does', async (t) => {
  const log = new Written()
  for (let i = 0; i < 6; i++) log.write('untold', (60 - i) * DAY)
  log.open('told', 50 * DAY, '90d/4')
  for (let i = 0; i < 3; i++) log.write('untold', (40 - i) * DAY)
  t.same(await log.problems(6), [])
  t.same(await log.problems(7), ['erased untold'])
})

test('what waited for Redis, or sums up, is older than what was trimmed before it', async (t) => {
  const log = new Written()
  const fill = (ages: number[]) => { for (const age of ages) log.write('one', age) }
  log.open('one', 5 * HOUR, '90d/10')
  log.write('cut-off', 5 * HOUR)
  fill([4.9 * HOUR, 4.4 * HOUR, 4.2 * HOUR])
  log.write('one', 4.8 * HOUR, { idAgeMs: 2 * HOUR, count: '1000' })
  log.write('cut-off', 4.3 * HOUR, { idAgeMs: 3.9 * HOUR })
  fill([3.8 * HOUR, 3.7 * HOUR])
  log.open('one', 3.6 * HOUR, '90d/10')
  fill([3.5, 3.4, 3.3, 3.2, 3.1, 3, 2.9].map((hours) => hours * HOUR))
  t.same(await log.problems(5), [])
  t.same(await log.problems(8), ['erased one'], 'fewer are left than are kept')
})

test('ids that cannot be are named', async (t) => {
  const { entries, signer, now } = makeOld([3 * HOUR, 2 * HOUR, HOUR])
  const move = (by: number) => verifyOf(entries.map(({ id, flat }) => ({ id: `${parseInt(id, 10) + by}-0`, flat })), signer, now)
  t.match(await move(0), { ok: true, late: 0 })
  t.match(await move(50 * DAY), { problems: [{ kind: 'moved', instance: 'one', detail: /of the future/ }, { kind: 'moved' }] })
  t.match(await move(-HOUR), { problems: [{ kind: 'moved', detail: /^3 entries/ }, { kind: 'moved' }] })
  t.match(await verifyOf(entries.map(({ flat }, i) => ({ id: `${now}-${i}`, flat })), signer, now), { ok: true, late: 3 }, 'written late, as after an outage')
})

test('ids that only go on from the greatest one, or that events prove right, are nobody\'s fault', async (t) => {
  const log = new Written()
  log.open('one', HOUR, '90d/1000')
  log.write('one', -2 * HOUR) // Redis's clock was put forward, and the event has its time
  log.write('one', HOUR / 2, { idAgeMs: -2 * HOUR }) // and put back
  log.write('other', HOUR / 3, { idAgeMs: -2 * HOUR })
  t.same(await log.problems(0), [])
  log.write('one', HOUR / 4, { idAgeMs: -3 * HOUR })
  log.write('other', HOUR / 5, { idAgeMs: -3 * HOUR })
  t.same(await log.problems(0), ['moved one'], 'none of the events is of that time; the one after it could not help it')
})

test('what was trimmed while it was read is no gap, and is judged like what is gone at the start', async (t) => {
  const log = new Written()
  for (const instance of ['one', 'other']) log.write(instance, 5 * HOUR)
  for (let i = 0; i < 10; i++) log.write(i === 3 ? 'other' : 'one', (4 - i / 10) * HOUR)
  const verify = async (retention: string) => {
    log.entries.length = 12
    log.open(`keeps ${retention}`, HOUR, retention)
    const { entries, signer, now } = log
    const lines = entries.map(({ flat }) => `${JSON.stringify({ tooljetEmbedAudit: fieldsOf(flat) })}\n`)
    const witness = new LogWitness(signer)
    await witness.read((async function * () { yield Buffer.from(lines.join('')) })())
    const pages = async function * () {
      yield entries.slice(0, 4)
      yield entries.slice(8).map((entry, i) => ({ ...entry, isFirst: i === 0 }))
    }
    const { problems } = await verifyAudit({ info: async () => undefined, now: async () => now, pages }, signer, { witnesses: [witness] })
    return problems.map(({ kind, instance, seq }) => `${kind} ${instance} ${seq}`)
  }
  t.same(await verify('90d/5'), [])
  t.same(await verify('90d/6'), ['erased one 4', 'missing one 4', 'missing other 2'], 'five are left')
})

test('entries tell where the stream began when they were read', async (t) => {
  const { portal, stream } = await Log.open(t)
  const { redis } = portal
  await redis.del(stream)
  for (let i = 1; i <= 250; i++) await redis.xadd(stream, `${i}-0`, 'a', 'b')
  const starts: string[] = []
  let count = 0
  for await (const page of entryPagesReadOnly(redis, stream)) {
    if (count === 0) await redis.xtrim(stream, 'MINID', '230-0') // after the page that is on its way
    count += page.length
    starts.push(...page.filter(({ isFirst }) => isFirst).map(({ id }) => id))
  }
  t.same(starts, ['1-0', '230-0'])

  for (let i = 251; i <= 500; i++) await redis.xadd(stream, `${i}-0`, 'a', 'b')
  const overtaken: string[] = []
  let last = ''
  for await (const { id } of new AuditReader(redis, stream).entries(undefined, (last) => overtaken.push(last))) {
    if (last === '') await redis.xtrim(stream, 'MINID', '490-0')
    last = id
  }
  t.same([overtaken.length, last], [1, '500-0'], 'an export tells of it')
})

test('an emptied stream is not one that was trimmed', async (t) => {
  const log = await Log.open(t)
  await log.portal.redis.xtrim(log.stream, 'MAXLEN', 2)
  t.match((await log.verify(t)).map(({ kind }) => kind), ['erased'])
  await log.portal.ask(ANA)
  await log.portal.audit()
  t.match((await log.verify(t)).map(({ kind }) => kind), ['erased'])
})

test('many entries of invented instances take no more than their time, and a thousand lines of report', async (t) => {
  const { ok, problems, problemCount, instances } = await verifyOld([HOUR], 0, { junk: 40_000 })
  t.match({ ok, problemCount }, { ok: false, problemCount: 40_000 })
  t.equal(problems.length, 1000)
  t.equal(instances.length, 2)
})

test('as many gaps as there can be are found in linear time', async (t) => {
  const signer = new EventSigner([Buffer.alloc(32)], 'audit')
  const flat = (seq: number): string[] => {
    const fields: AuditFields = { time: new Date(0).toISOString(), event: 'url.reused', instance: 'one', seq: String(seq), schema: '2' }
    signer.sign(fields, 0)
    return Object.entries(fields).flat()
  }
  const seqs = [...Array.from({ length: 20_000 }, (_, i) => 2 * i + 1), ...Array.from({ length: 20_000 }, (_, i) => 2 * i + 2)]
  const before = process.cpuUsage()
  const report = await verifyAudit({ info: async () => undefined, now: async () => 0, async * pages () { yield seqs.map((seq, i) => ({ id: `${i + 1}-0`, flat: flat(seq) })) } }, signer)
  t.match(report, { ok: false, events: 40_000, problemCount: 20_000 })
  t.ok(process.cpuUsage(before).user < 20_000_000)
})

test('verify holds for what a client sent, cut to length or half a character', async (t) => {
  const portal = await Portal.open(t)
  for (const app of ['x'.repeat(255) + '😀', '\ud800', 'é'.repeat(300), 'a\u0000b"\\']) {
    t.equal((await portal.ask(ANA, { app })).status, 400)
    const [event] = (await portal.audit()).slice(-1)
    t.ok(event!['app']!.length <= 256)
  }
  t.match(await portal.app.tooljetEmbed.audit.verify(), { ok: true, events: 5 })
})

test("half a character in a host's error code is no end of the log", async (t) => {
  const portal = await Portal.open(t, {
    options: {
      audit: { delivery: 'required' },
      authorize: (_request, { email }) => {
        if (email === CLEO) throw Object.assign(new Error('no'), { code: 'NO_\ud83d' })
        return true
      },
    }
  })
  t.equal((await portal.ask(CLEO)).status, 500)
  t.equal((await portal.ask(ANA)).status, 200)
  t.match(await portal.audit(), [{ event: 'url.failed', code: 'NO_\ufffd' }, { event: 'url.minted' }])
  await t.rejects(portal.app.tooljetEmbed.forget({ email: 'x\ud800@acme.test' }), { code: 'TOOLJET_EMBED_BAD_REQUEST' })
  t.match(await portal.app.tooljetEmbed.audit.verify(), { ok: true, events: 3 })
})

test('verify of what is no stream is an error, and not an empty log', async (t) => {
  const { portal, stream } = await Log.open(t)
  await portal.redis.set(stream, 'text')
  await t.rejects(portal.app.tooljetEmbed.audit.verify(), { code: 'TOOLJET_EMBED_REDIS_DOWN', cause: { message: /WRONGTYPE/ } })
})

test('a mac covers the names, the values and the stream, and tells the time', (t) => {
  const [fresh, old] = [Buffer.from('new'), Buffer.from('old')]
  const signer = new EventSigner([fresh, old], 'audit')
  const make = (): AuditFields => ({ time: '2026-01-31T10:00:00.000Z', event: 'url.minted', app: 'é"\\', seq: '2', prev: 'before', schema: '2' })
  const signedWith = (key: Buffer): string[] => {
    const fields = make()
    new EventSigner([key], 'audit').sign(fields, Date.parse(fields['time']!))
    return Object.entries(fields).flat()
  }
  const flat = signedWith(fresh)
  t.same(signer.verify(flat), fieldsOf(flat))
  t.ok(signer.verify(signedWith(old)), 'any of the keys')
  t.notOk(signer.verify(signedWith(Buffer.from('other'))))
  t.notOk(new EventSigner([fresh], 'other').verify(flat))
  t.notOk(signer.verify(withValue(flat, 'prev', 'another')))
  t.equal(timeOfMac(flat.at(-1)!), Date.parse('2026-01-31T10:00:00.000Z'))
  t.notOk(signer.verify(['event,seq', 'x', ...flat.slice(-4)]), 'names made up to be taken for others')
  t.end()
})
