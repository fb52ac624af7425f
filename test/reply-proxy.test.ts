import { once } from 'node:events'
import { connect } from 'node:net'
import { Redis, type RedisOptions } from 'ioredis'
import { t as tap, test, type Test } from 'tap'
import { startServer } from '../example/redis.js'
import { ReplyProxy, type Command } from './support/reply-proxy.js'
import { CommandReader, ReplyScanner } from './support/resp.js'
import { stopwatch } from './support/stopwatch.js'
import { until } from './support/until.js'

const server = await startServer()
tap.teardown(() => server.stop())

async function behindProxy (t: Test, options: RedisOptions = {}): Promise<{ proxy: ReplyProxy, redis: Redis, direct: Redis, seen: Command[] }> {
  const proxy = await ReplyProxy.to(server.port)
  const seen: Command[] = []
  proxy.fate = (command) => {
    seen.push(command)
    return undefined
  }
  const [redis, direct] = [proxy.port, server.port].map((port) => new Redis(port, '127.0.0.1', { retryStrategy: () => 20, ...options }).on('error', () => {})) as [Redis, Redis]
  t.teardown(async () => {
    redis.disconnect()
    direct.disconnect()
    await proxy.close()
  })
  await redis.ping()
  await direct.flushall()
  return { proxy, redis, direct, seen }
}

/** Replies of every type, large ones, and many at a time. */
async function talk (t: Test, redis: Redis): Promise<void> {
  const large = Buffer.alloc(1024 * 1024, 'a\r\n$5\r\n*2\r\n>')
  t.equal(await redis.set('large', large), 'OK')
  t.ok(large.equals((await redis.getBuffer('large'))!), 'a value of 1 MB with lines that look like RESP')
  const pipeline = redis.pipeline()
  for (let i = 0; i < 500; i++) pipeline.set(`key:${i}`, `value ${i}`).get(`key:${i}`)
  const answers = await pipeline.exec()
  t.same(answers, Array.from({ length: 500 }, (_, i) => [[null, 'OK'], [null, `value ${i}`]]).flat())
  await redis.hset('hash', { a: 1, b: '' })
  t.same(await redis.hgetall('hash'), { a: '1', b: '' })
  await redis.sadd('set', 'x', 'y')
  t.same((await redis.smembers('set')).sort(), ['x', 'y'])
  await redis.zadd('sorted', 1.5, 'm')
  t.equal(Number(await redis.zscore('sorted', 'm')), 1.5)
  t.equal(await redis.get('none'), null)
  t.same(await redis.xrange('none', '-', '+'), [])
  t.same(await redis.mget('none', 'key:1'), [null, 'value 1'])
  await t.rejects(redis.incr('large'), /not an integer/)
  await t.rejects(redis.eval('return redis.error_reply("MY own")', 0), /MY own/)
  t.same(await redis.eval('return { 1, { "two", { 3 } }, {}, "" }', 0), [1, ['two', [3]], [], ''])
  t.equal(await redis.eval('return false', 0), null)
}

for (const protocol of [2, 3] as const) {
  test(`a client talks through it as without it, in RESP ${protocol}`, async (t) => {
    const { redis, proxy, seen } = await behindProxy(t, { protocol })
    await talk(t, redis)
    const names = seen.map(({ name }) => name)
    t.equal(names.filter((name) => name === 'GET').length, 502)
    t.equal(names.includes('HELLO'), protocol === 3)
    t.match(seen.find(({ name }) => name === 'EVAL')!.script, /^[0-9a-f]{40}$/)

    // the next reply is still matched with its command: nothing was miscounted
    proxy.fate = ({ name, args }) => (name === 'GET' && String(args[1]) === 'key:7' ? 'lose' : undefined)
    const got = redis.get('key:7')
    await until('it is lost', () => proxy.lost === 1)
    proxy.fate = undefined
    t.equal(await got, 'value 7', 'sent again')
  })
}

test('a reply is lost after Redis has carried out its command, those before it arrive', async (t) => {
  const { proxy, redis, direct } = await behindProxy(t, { autoResendUnfulfilledCommands: false, maxRetriesPerRequest: 0 })
  proxy.fate = ({ name, args }) => (name === 'INCR' && String(args[1]) === 'n:250' ? 'lose' : undefined)
  const answers = await Promise.allSettled(Array.from({ length: 500 }, (_, i) => redis.incr(`n:${i}`)))
  t.same(answers.map(({ status }) => status === 'fulfilled'), Array.from({ length: 500 }, (_, i) => i < 250))
  t.equal(await direct.get('n:250'), '1', 'carried out')
  t.equal(proxy.lost, 1)
})

test('what a client sends again runs twice', async (t) => {
  const { proxy, redis, direct } = await behindProxy(t)
  let left = 1
  proxy.fate = ({ name }) => (name === 'INCR' && left-- > 0 ? 'lose' : undefined)
  t.equal(await redis.incr('n'), 2)
  t.equal(await direct.get('n'), '2')
})

test('a large reply is lost as a whole', async (t) => {
  const { proxy, redis } = await behindProxy(t)
  await redis.set('large', Buffer.alloc(3 * 1024 * 1024, 'x'))
  let left = 1
  proxy.fate = ({ name }) => (name === 'GET' && left-- > 0 ? 'lose' : undefined)
  t.equal((await redis.get('large'))!.length, 3 * 1024 * 1024)
  t.equal(proxy.lost, 1)
})

test('a reply is delayed, with all after it, and the connection stays', async (t) => {
  const { proxy, redis, seen } = await behindProxy(t)
  seen.length = 0
  proxy.fate = (command) => {
    seen.push(command)
    return command.name === 'GET' ? { delayMs: 400 } : undefined
  }
  const waited = stopwatch()
  const began = performance.now()
  const took = async (answer: Promise<unknown>): Promise<number> => {
    await answer
    return performance.now() - began
  }
  const [before, delayed, after] = await Promise.all([redis.ping().then(waited), took(redis.get('x')), took(redis.ping())])
  t.ok(before < 300, `${before} ms`)
  t.ok(delayed >= 395 && after >= 395, `${delayed} and ${after} ms`)
  t.notOk(seen.some(({ name }) => name === 'INFO'), 'no new connection')
})

test('bytes in pieces of every size, pushes and attributes', async (t) => {
  const { proxy, direct } = await behindProxy(t)
  const socket = connect(proxy.port, '127.0.0.1')
  t.teardown(() => socket.destroy())
  let got = ''
  socket.on('data', (chunk) => { got += String(chunk) })
  const say = async (...args: string[]): Promise<void> => {
    const bytes = Buffer.from(`*${args.length}\r\n${args.map((arg) => `$${arg.length}\r\n${arg}\r\n`).join('')}`)
    for (const byte of bytes) {
      if (!socket.write(Buffer.of(byte))) await once(socket, 'drain')
    }
  }
  await say('HELLO', '3')
  await say('CLIENT', 'TRACKING', 'ON')
  await say('GET', 'tracked')
  await until('it is tracked', () => got.endsWith('_\r\n'))
  await direct.set('tracked', '1')
  await until('a push', () => got.includes('invalidate'))
  proxy.fate = ({ name }) => (name === 'ECHO' ? 'lose' : undefined)
  await say('PING')
  await until('a reply', () => got.endsWith('+PONG\r\n'))
  const gone = once(socket, 'close')
  await say('ECHO', 'secret')
  await gone
  t.notOk(got.includes('secret'), 'a push is not the reply to anything')
  t.equal(proxy.lost, 1)

  const replies = ['+OK\r\n', '$-1\r\n', '$0\r\n\r\n', '*-1\r\n', '*0\r\n', '*2\r\n:1\r\n$3\r\na\r\n\r\n', '%1\r\n+k\r\n~2\r\n#t\r\n_\r\n', ',1.5\r\n', '=7\r\ntxt:abc\r\n', '(123\r\n', '!5\r\nE abc\r\n', '-ERR no\r\n', '>2\r\n+a\r\n+b\r\n', '|1\r\n+ttl\r\n:3\r\n*1\r\n+x\r\n']
  const all = Buffer.from(replies.join(''))
  const ends = replies.map((_, i) => replies.slice(0, i + 1).join('').length)
  const wrong: number[] = []
  for (let size = 1; size <= all.length; size++) {
    const scanner = new ReplyScanner()
    const found: number[] = []
    for (let from = 0; from < all.length; from += size) {
      const chunk = all.subarray(from, from + size)
      for (let at: number | undefined = 0; at !== undefined && at < chunk.length;) {
        at = scanner.scan(chunk, at)
        if (at !== undefined) found.push(from + at)
      }
    }
    if (found.join() !== ends.join()) wrong.push(size)
  }
  t.same(wrong, [], 'chunks of these sizes')
  const commands = ['*1\r\n$4\r\nPING\r\n', '*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4\r\n\r\n*1\r\n', '*2\r\n$3\r\nGET\r\n$0\r\n\r\n'].join('')
  for (let size = 1; size <= commands.length; size++) {
    const reader = new CommandReader()
    const read: string[][] = []
    for (let from = 0; from < commands.length; from += size) read.push(...reader.read(Buffer.from(commands.slice(from, from + size))).map((args) => args.map(String)))
    t.same(read, [['PING'], ['SET', 'k', '\r\n*1'], ['GET', '']], `in chunks of ${size}`)
  }
})
