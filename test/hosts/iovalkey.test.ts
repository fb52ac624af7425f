/*
 * What the plugin promises, with a host whose client is of iovalkey, a fork of ioredis: the same tests, run once more.
 */
process.env['TEST_REDIS_CLIENT'] = 'iovalkey'

for (const name of ['route', 'reuse', 'forget', 'limits', 'lost-replies']) await import(`../${name}.test.js`)
