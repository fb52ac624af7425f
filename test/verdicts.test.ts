import { t as tap, test } from 'tap'
import { errorBody, type Fault } from '../example/tooljet/server.js'
import { ANA, BEN, INVENTORY, Portal, releaseRedisAfter } from './support/portal.js'
import { refusal } from './support/refusal.js'
import { until } from './support/until.js'

releaseRedisAfter(tap)

/** What others say in ToolJet's place, and ToolJet's words in a form that is not its own. */
const OTHERS: Record<string, NonNullable<Fault['reply']>> = {
  'AWS API Gateway': { status: 403, body: { message: 'Forbidden' } },
  'AWS API Gateway, of its authorizer': { status: 403, body: { Message: 'User is not authorized to access this resource' } },
  'Spring Cloud Gateway': { status: 403, body: { timestamp: '2026-11-26T00:00:00.000+00:00', path: '/api/ext/users/personal-access-token', status: 403, error: 'Forbidden', message: 'Forbidden', requestId: '1' } },
  'a gateway with "status"': { status: 403, body: { message: 'Forbidden', status: 403 } },
  'Azure API Management': { status: 403, body: { statusCode: 403, message: 'Forbidden' } },
  'Azure Application Gateway': { status: 403, body: '<html><head><title>403 Forbidden</title></head></html>' },
  Cloudflare: { status: 403, body: { success: false, errors: [{ code: 1020, message: 'Access denied' }] } },
  'Cloudflare, in words': { status: 403, body: 'error code: 1020' },
  'a server made with Fastify': { status: 403, body: { statusCode: 403, error: 'Forbidden', message: 'Forbidden' } },
  nothing: { status: 403, body: '' },
  'another status inside': { status: 403, body: errorBody(404, 'User has no permission') },
  'a status as text': { status: 403, body: { ...errorBody(403, 'no'), statusCode: '403' } },
  'a list in JSON': { status: 403, body: [errorBody(403, 'no')] },
  Kong: { status: 404, body: { message: 'no Route matched with those values' } },
  'Kong with its request': { status: 404, body: { message: 'no Route matched with those values', request_id: 'user@app' } },
  'a Go server': { status: 404, body: '404 page not found' },
  'AWS API Gateway without a route': { status: 404, body: { message: 'Not Found' } },
  'Azure API Management without a route': { status: 404, body: { statusCode: 404, message: 'Resource not found' } },
  'Fastify without a route': { status: 404, body: { statusCode: 404, error: 'Not Found', message: 'Route POST:/app/api/ext/users/personal-access-token not found' } },
  'the community edition under a sub-path': { status: 404, body: errorBody(404, 'Cannot POST /app/api/ext/users/personal-access-token') },
  'a user in no form': { status: 404, body: { message: 'User not found' } },
  'nothing at all': { status: 404, body: '' },
  'a 401 in the form': { status: 401, body: errorBody(401, 'User has no permission') },
}

for (const [name, reply] of Object.entries(OTHERS)) {
  test(`not ToolJet's verdict: ${name}`, async (t) => {
    const portal = await Portal.open(t, { options: { patExpiry: 100, minRemaining: 99 } })
    await portal.ask(ANA)
    await portal.ask(BEN)
    portal.toolJet.faults = () => ({ reply })
    const { body } = await portal.ask(ANA, { appId: INVENTORY.id })
    t.match(body, { statusCode: 502, code: 'TOOLJET_EMBED_MISCONFIGURED' }, 'the user is not blamed')
    t.match(portal.logLines.filter(({ level }) => level === 50).map(({ msg }) => msg), [/mint failed: \w/], 'the operator is told')
    portal.toolJet.faults = undefined
    t.match(await portal.ask(ANA, { appId: INVENTORY.id }), { status: 200 }, 'nobody remembers it')
    t.match(await portal.ask(BEN), { status: 200 })
    t.match((await portal.audit()).map(({ event, code }) => code ?? event), ['url.minted', 'url.minted', 'TOOLJET_EMBED_MISCONFIGURED', 'url.minted', /^url/])
  })
}

test('a refusal that is not ToolJet\'s forgets nothing, one that is does', async (t) => {
  const portal = await Portal.open(t, { options: { patExpiry: 10, minRemaining: 9 } })
  for (const [fault, code] of [[{ reply: OTHERS['AWS API Gateway']! }, undefined], [{ reply: OTHERS['Kong']! }, undefined], [refusal(403, 'no access'), 'TOOLJET_EMBED_ACCESS_DENIED']] as const) {
    portal.toolJet.faults = undefined
    const { body: first } = await portal.ask(ANA)
    await until('it has less than minRemaining', () => Date.parse(first.expiresAt) - Date.now() < 8900)
    portal.toolJet.faults = () => fault
    const { body } = await portal.ask(ANA)
    if (code === undefined) t.match(body, { source: 'reused', urlId: first.urlId }, 'its last seconds are given')
    else t.match(body, { code })
  }
})

test('a status 422 is tried once more, and no more', async (t) => {
  const portal = await Portal.open(t)
  const { toolJet } = portal
  toolJet.faults = () => (toolJet.calls.length === 1 ? refusal(422, 'Already exists!') : undefined)
  t.match(await portal.ask(ANA), { status: 200, body: { source: 'minted' } })
  t.equal(toolJet.calls.length, 2)
  toolJet.faults = () => refusal(422, 'Already exists!')
  t.match(await portal.ask(BEN), { status: 503, headers: { 'retry-after': /./ }, body: { code: 'TOOLJET_EMBED_UNAVAILABLE' } })
  t.equal(toolJet.calls.length, 4)
})
