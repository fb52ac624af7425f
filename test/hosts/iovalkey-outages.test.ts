/*
 * The same of the audit log, and of a Redis that is unavailable: what of it depends on the client.
 */
const NAMES = [
  'an entry has flat', 'every kind of answer', "delivery 'required'", 'events wait while Redis', 'what cannot be written at exit', 'a client that resends', 'a batch that lands', 'who may not trim',
  "'serve': what this instance", "'fail': 503", 'a mint that Redis cannot take', "'serve': a URL minted while", 'a key of another type', 'a Redis that is ', "'serve': what an ACL", 'a Redis that refuses what a start',
]
const LAST = 'every name above is one of a test that ran'
process.env['TEST_REDIS_CLIENT'] = 'iovalkey'
process.env['TAP_GREP'] = `^(?:${[...NAMES, LAST].join('|')})`

// not before: tap reads what it is to run when it is loaded
const { t: tap, test } = await import('tap')
const ran: string[] = []
tap.on('subtestStart', ({ name }) => { ran.push(name) })

for (const name of ['audit', 'redis-down']) await import(`../${name}.test.js`)

test(LAST, async (t) => {
  t.strictSame(NAMES.filter((name) => !ran.some((test) => test.startsWith(name))), [])
})
