import { t as tap, test } from 'tap'
import { RedisClock } from '../plugin/redis/clock.js'
import { classify, replyError } from '../plugin/redis/errors.js'
import { Script } from '../plugin/redis/script.js'
import { systemTimers } from '../plugin/timers.js'
import { newPrefix, releaseRedisAfter } from './support/portal.js'
import { newClient } from './support/redis-client.js'
import { sharedRedisUrl } from './support/redis.js'
import { wayToRedis } from './support/way-to-redis.js'

/*
 * What an instance knows of Redis's clock, and what it makes of errors.
 */

releaseRedisAfter(tap)

function clockAt (moment: number) {
  const timers = { ...systemTimers, now: () => moment, date: () => 7 }
  const clock = new RedisClock(timers)
  return { clock, move: (ms: number) => { moment += ms } }
}

test('a reading is known within bounds, which only become narrower', async (t) => {
  const { clock, move } = clockAt(100)
  t.equal(clock.now(), 7, 'the date, for people, before it was heard')
  t.equal(clock.deadline(50), 0)
  t.throws(() => clock.earliest(0))

  move(900)
  clock.observe(50_000, 100) // sent at 100, here at 1000: Redis said so somewhere in between
  t.same([clock.earliest(1000), clock.latest(1000)], [50_000, 50_900])
  t.equal(clock.deadline(50), 50_950, 'no call is late that is not')
  move(1000)
  clock.observe(51_020, 1990)
  t.same([clock.earliest(2000), clock.latest(2000)], [51_020, 51_030])
  move(1000)
  clock.observe(51_500, 2000)
  t.same([clock.earliest(3000), clock.latest(3000)], [52_020, 52_030], 'what is less exact changes nothing')
})

test('another Redis has another clock, which is believed', async (t) => {
  const { clock, move } = clockAt(1000)
  clock.observe(50_000, 990)
  move(1000)
  clock.observe(20_000, 1990)
  t.same([clock.earliest(2000), clock.latest(2000)], [20_000, 20_010])
})

test('a call that is late by a clock that was known wrong is sent once more', async (t) => {
  const client = newClient(await sharedRedisUrl())
  t.teardown(() => client.disconnect())
  const { breaker, clock, timers, scripts } = await wayToRedis(client, 5000, { info () {}, warn () {}, error () {} } as never)
  t.teardown(() => breaker.close())
  const prefix = newPrefix()
  clock.observe(Date.now() - 3_600_000, timers.now()) // of another Redis, an hour behind
  const script = new Script(`${await lateAware()}redis.call('SET', KEYS[1], '1', 'PX', 1000)\nreturn { at, 'done' }`)
  const { values: [said] } = await scripts.run(script, [`${prefix}key`], [])
  t.equal(String(said), 'done')
  t.ok(Math.abs(clock.now() - Date.now()) < 60_000)

  clock.observe(Date.now() - 3_600_000, timers.now())
  t.equal(String((await scripts.attempt(script, [`${prefix}other`], [])).values[0]), 'done', 'whatever the state of Redis')
})

test('a call that is late twice is given up', async (t) => {
  const client = newClient(await sharedRedisUrl())
  t.teardown(() => client.disconnect())
  const { breaker, scripts } = await wayToRedis(client, 5000, { info () {}, warn () {}, error () {} } as never)
  t.teardown(() => breaker.close())
  const late = new Script("local now = redis.call('TIME')\nreturn { now[1] * 1000, 'late' }")
  await t.rejects(scripts.run(late, [], []), { code: 'TOOLJET_EMBED_REDIS_DOWN', message: /its clock jumps/ })
  await t.rejects(scripts.attempt(late, [], []), /clock of Redis jumps/)
})

test('a slot of a Cluster that has moved is asked for again, where the client only says so', async (t) => {
  const client = newClient(await sharedRedisUrl())
  t.teardown(() => client.disconnect())
  let moves = 0
  const moved = new Proxy(client, {
    get (target, name) {
      if (name === 'nodes') return () => []
      const value: unknown = Reflect.get(target, name)
      if (typeof value !== 'function') return value
      if (name !== 'evalshaBuffer') return value.bind(target)
      return (...args: unknown[]) => (moves++ < 2 ? Promise.reject(replyError('MOVED 99 127.0.0.1:1')) : value.apply(target, args))
    },
  })
  const { breaker, scripts } = await wayToRedis(moved, 5000, { info () {}, warn () {}, error () {} } as never)
  t.teardown(() => breaker.close())
  const { values: [said] } = await scripts.run(new Script(`${await lateAware()}return { at, 'done' }`), [`${newPrefix()}key`], [])
  t.equal(String(said), 'done')
  t.ok(moves > 2)
  moves = -10
  await t.rejects(scripts.run(new Script(`${await lateAware()}return { at }`), [`${newPrefix()}key`], []), { code: 'TOOLJET_EMBED_REDIS_DOWN', isRefusal: true })
})

/** What all scripts begin with. */
async function lateAware (): Promise<string> {
  const { lua } = await import('../plugin/redis/lua.js')
  return `${lua('redis/scripts/prelude.lua')}\n`
}

test('what an error means: an outage, a refusal, or a mistake in code', async (t) => {
  const ofSocket = Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' })
  const withCode = Object.assign(new TypeError('bad option'), { code: 'ERR_INVALID_ARG_TYPE' })
  for (const error of [
    ofSocket, withCode, new Error('Connection is closed.'),
    ...['LOADING Redis is loading', 'READONLY You can\'t write', '-OOM command not allowed', 'MISCONF x', 'NOREPLICAS x', 'MASTERDOWN x', 'CLUSTERDOWN x', 'TRYAGAIN x', 'BUSY x', 'NOAUTH x', 'WRONGPASS x'].map(replyError),
    replyError('ERR Error running script (call to f_0): @user_script:12: @user_script: 12: -OOM command not allowed'),
  ]) t.equal(classify(error), 'unavailable', error.message)
  for (const message of ['WRONGTYPE Operation', 'NOPERM this user', 'ERR wrong', 'CROSSSLOT Keys', 'ERR the word OOM inside']) t.equal(classify(replyError(message)), 'refused', message)
  for (const error of [new TypeError('x is not a function'), new RangeError('x'), 'a string', undefined]) t.equal(classify(error), 'unexpected', String(error))
})
