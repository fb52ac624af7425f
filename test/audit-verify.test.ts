import { t as tap, test, type Test } from 'tap'
import { Chain } from '../plugin/audit/chain.js'
import { deriveSecretKeys } from '../plugin/crypto/secret-keys.js'
import { API_TOKEN, ANA, CLEO, Portal, releaseRedisAfter } from './support/portal.js'

releaseRedisAfter(tap)

type Entry = [id: string, fields: string[]]

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

  /** @returns what is wrong with the first instance, the other one being as it was */
  async verify (t: Test): Promise<{ kind: string, seq: number, id: string }[]> {
    const { ok, instances } = await this.portal.app.tooljetEmbed.audit.verify()
    for (const { instance, problems } of instances) if (instance !== this.instance) t.same(problems, [])
    const { problems = [] } = instances.find(({ instance }) => instance === this.instance) ?? {}
    t.equal(ok, problems.length === 0)
    return problems.map(({ kind, seq, id }) => ({ kind, seq, id }))
  }

  /** Writes it anew with a change. */
  async verifyWith (t: Test, change: (entries: Entry[]) => Entry[]): Promise<{ kind: string, seq: number, id: string }[]> {
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

/** As somebody with another key, and no other lack, would write it. */
function signedBy (key: Buffer, before: string, fields: string[]): string[] {
  const object = Object.fromEntries(fields.flatMap((name, i) => (i % 2 === 0 ? [[name, fields[i + 1]!]] : [])))
  return withValue(fields, 'mac', new Chain([key]).mac(before, object))
}

test('verify: an untouched stream of several instances holds', async (t) => {
  const [one, other] = await Portal.openSeveral(t, 2) as [Portal, Portal]
  for (let i = 0; i < 5; i++) await Promise.all([one.ask(ANA), other.ask(ANA), other.ask(CLEO)])
  await one.app.close()
  await other.audit()
  const report = await other.app.tooljetEmbed.audit.verify()
  t.match(report, { ok: true, events: 18 })
  t.same(report.instances.map(({ events, firstSeq, lastSeq, closed, trimmed, problems }) => ({ events, firstSeq, lastSeq, closed, trimmed, problems })).sort((a, b) => a.events - b.events), [
    { events: 7, firstSeq: 1, lastSeq: 7, closed: true, trimmed: false, problems: [] },
    { events: 11, firstSeq: 1, lastSeq: 11, closed: false, trimmed: false, problems: [] },
  ])
})

test('verify names an event that was deleted', async (t) => {
  const log = await Log.open(t)
  t.same(await log.verify(t), [])
  await log.portal.redis.xdel(log.stream, log.event(4)[0])
  t.match(await log.portal.app.tooljetEmbed.audit.verify(), { stream: { removed: 1, deleted: log.event(4)[0] } })
  t.same(await log.verify(t), [{ kind: 'gap', seq: 4, id: log.event(5)[0] }])
})

test('verify sees that the first or the last event was deleted', async (t) => {
  for (const seq of [1, 7]) {
    const log = await Log.open(t)
    await log.portal.redis.xdel(log.stream, log.event(seq)[0])
    t.match(await log.portal.app.tooljetEmbed.audit.verify(), { ok: false, stream: { removed: 1, deleted: log.event(seq)[0] } })
  }
})

test('verify names an event that was changed, in any field', async (t) => {
  const log = await Log.open(t)
  for (const field of ['email', 'time', 'app', 'ip', 'seq', 'mac']) {
    const problems = await log.verifyWith(t, (entries) => {
      const entry = entries[log.place(4)]!
      entry[1] = withValue(entry[1], field, field === 'seq' ? '04' : 'eve@acme.test')
      return entries
    })
    t.match(problems[0], { kind: 'forged', seq: 4, id: `${log.place(4) + 1}-0` }, field)
  }
  const added = await log.verifyWith(t, (entries) => {
    entries[log.place(4)]![1].push('note', 'all well')
    return entries
  })
  t.same(added, [{ kind: 'forged', seq: 4, id: `${log.place(4) + 1}-0` }])
})

test('verify names events out of order', async (t) => {
  const log = await Log.open(t)
  const [three, four, six] = [3, 4, 6].map((seq) => log.place(seq)) as [number, number, number]
  const swapped = await log.verifyWith(t, (entries) => entries.with(three, entries[four]!).with(four, entries[three]!))
  t.same(swapped, [{ kind: 'reordered', seq: 3, id: `${four + 1}-0` }], 'two neighbours')
  const changed = await log.verifyWith(t, (entries) => entries.with(three, entries[four]!).with(four, ['', withValue(entries[three]![1], 'email', 'eve@acme.test')]))
  t.match(changed, [{ kind: 'reordered', seq: 3 }, { kind: 'forged', seq: 3 }], 'and one of them changed')
  const early = await log.verifyWith(t, (entries) => entries.toSpliced(six, 1).toSpliced(three, 0, entries[six]!))
  t.same(early, [{ kind: 'reordered', seq: 6, id: `${three + 1}-0` }], 'one too early')
  const late = await log.verifyWith(t, (entries) => entries.toSpliced(three, 1).toSpliced(six, 0, entries[three]!))
  t.match(late, [{ kind: 'reordered', seq: 3 }], 'one too late')
})

test('verify names an event that is there twice', async (t) => {
  const log = await Log.open(t)
  const place = log.place(4)
  t.same(await log.verifyWith(t, (entries) => entries.toSpliced(place, 0, entries[place]!)), [{ kind: 'duplicate', seq: 4, id: `${place + 2}-0` }])
  const again = await log.verifyWith(t, (entries) => [...entries, entries[place]!])
  t.same(again, [{ kind: 'duplicate', seq: 4, id: `${log.entries.length + 1}-0` }])
})

test('verify names an event that was written with another key, wherever it is', async (t) => {
  const log = await Log.open(t)
  const lastMac = valueOf(log.event(7)[1], 'mac')!
  const forge = (seq: number, before: string): string[] => signedBy(Buffer.from('another key'), before, withValue(log.event(7)[1], 'seq', String(seq)))
  const ownKey = (await deriveSecretKeys(API_TOKEN)).keyFor('audit')
  const forged = (seq: number, place: number): object => ({ kind: 'forged', seq, id: `${place + 1}-0` })

  t.same(await log.verifyWith(t, (entries) => [...entries, ['', forge(8, lastMac)]]), [forged(8, log.entries.length)], 'as the last one')
  t.same(await log.verifyWith(t, (entries) => [...entries, ['', signedBy(ownKey, lastMac, withValue(log.event(7)[1], 'seq', '8'))]]), [], 'the right key would do')
  const place = log.place(4)
  t.match(await log.verifyWith(t, (entries) => entries.with(place, ['', forge(4, valueOf(log.event(3)[1], 'mac')!)])), [forged(4, place)], 'in place of another')
  t.same(await log.verifyWith(t, (entries) => entries.toSpliced(place, 0, ['', forge(5, '')])), [forged(5, place)], 'with the seq of one to come')
  t.same(await log.verifyWith(t, (entries) => entries.toSpliced(place, 0, ['', forge(6, '')])), [forged(6, place)], 'with the seq of a later one')
  t.same(await log.verifyWith(t, (entries) => entries.toSpliced(place, 0, ['', forge(1_000_000_000, '')])), [forged(1_000_000_000, place)], 'with a seq that never comes')
  t.same(await log.verifyWith(t, (entries) => entries.toSpliced(place, 0, ['', withValue(forge(5, ''), 'seq', 'x')])), [{ kind: 'forged', seq: NaN, id: `${place + 1}-0` }], 'without a seq')
})

test('verify reports several gaps, and what of one came late', async (t) => {
  const log = await Log.open(t)
  const [two, three, four, six] = [2, 3, 4, 6].map((seq) => log.place(seq)) as [number, number, number, number]
  const problems = await log.verifyWith(t, (entries) => [...entries.filter((_, i) => ![two, three, four, six].includes(i)), entries[three]!])
  t.match(problems, [{ kind: 'gap', seq: 2 }, { kind: 'gap', seq: 6 }, { kind: 'reordered', seq: 3 }])
})

test('verify knows a trimmed start from a gap', async (t) => {
  const log = await Log.open(t)
  await log.portal.redis.xtrim(log.stream, 'MINID', log.event(3)[0])
  t.same(await log.verify(t), [])
  const { ok, stream, instances } = await log.portal.app.tooljetEmbed.audit.verify()
  t.match({ ok, stream }, { ok: true, stream: { removed: log.place(3) } })
  t.notOk('deleted' in stream!)
  t.match(instances.find(({ instance }) => instance === log.instance), { trimmed: true, firstSeq: 3, lastSeq: 7, closed: false })
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

test('a mac covers the mac before it', async (t) => {
  const chain = new Chain([Buffer.from('new'), Buffer.from('old')])
  const fields = { event: 'url.minted', seq: '2' }
  const signed = { ...fields, mac: chain.mac('before', fields) }
  t.ok(chain.holds('before', signed))
  t.notOk(chain.holds('another', signed))
  t.ok(chain.holds('before', { ...fields, mac: new Chain([Buffer.from('old')]).mac('before', fields) }), 'any of the keys')
  t.notOk(chain.holds('before', { ...fields, mac: new Chain([Buffer.from('other')]).mac('before', fields) }))
  t.notOk(chain.holds('before', fields))
})

test('names that were made up to be taken for others change nothing for those', (t) => {
  const chain = new Chain([Buffer.from('key')])
  const signed = { left: '1', right: '2', mac: chain.mac('', { left: '1', right: '2' }) }
  t.notOk(chain.holds('', { 'left,right': 'x', mac: signed.mac }))
  t.ok(chain.holds('', signed))
  t.notOk(chain.holds('', { ...signed, right: '3' }))
  t.end()
})
