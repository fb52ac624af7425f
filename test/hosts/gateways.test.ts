import { once } from 'node:events'
import { createServer as createHttpServer } from 'node:http'
import { createServer, type AddressInfo, type Socket } from 'node:net'
import { brotliCompressSync, deflateRawSync, deflateSync, gzipSync } from 'node:zlib'
import { t as tap, test, type Test } from 'tap'
import { errorBody } from '../../example/tooljet/server.js'
import { ANA, API_TOKEN, BEN, CLEO, Portal, releaseRedisAfter, SALES } from '../support/portal.js'

releaseRedisAfter(tap)

/* What stands between the portal and ToolJet: gateways that answer in ToolJet's place, compress, hold connections, close them. */

type Answer = (socket: Socket, request: string, count: number) => void

/** A server of bytes: `answer` is called for each request, `count` counts those of a connection. */
async function rawServer (t: Test, answer: Answer) {
  const requests: string[] = []
  const sockets = new Set<Socket>()
  let connections = 0
  const server = createServer((socket) => {
    let count = 0
    let text = ''
    connections++
    sockets.add(socket)
    socket.on('error', () => {})
    socket.on('data', (chunk) => {
      text += String(chunk)
      const [head = '', body] = text.split('\r\n\r\n')
      const length = Number(/content-length: (\d+)/i.exec(head)?.[1])
      if (body === undefined || Buffer.byteLength(body) < length) return
      requests.push(text)
      const request = text
      text = ''
      answer(socket, request, ++count)
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, requests, connections: () => connections }
}

const portalOf = (t: Test, url: string) => Portal.open(t, { options: { tooljet: { url, apiToken: API_TOKEN, timeoutMs: 5000, embedOrigins: ['https://tooljet.test'] } } })

const minted = (n = 1) => JSON.stringify({ personalAccessToken: `pat_${n}`, redirectUrl: `https://tooljet.test/embed-apps/${SALES.id}?personal-access-token=pat_${n}` })

function http (status: string, body: string | Buffer, headers: string[] = ['content-type: application/json']): Buffer {
  const bytes = Buffer.from(body)
  return Buffer.concat([Buffer.from([`HTTP/1.1 ${status}`, ...headers, `content-length: ${bytes.length}`, '', ''].join('\r\n')), bytes])
}

const utf16 = Buffer.from(`\ufeff${minted()}`, 'utf16le')
const chunked = (text: string) => [...text.matchAll(/[^]{1,7}/g)].map(([part]) => `${part.length.toString(16)};x=y\r\n${part}\r\n`).join('') + '0\r\nx-trailer: 1\r\n\r\n'
const json = 'content-type: application/json'
const ODD: Record<string, Buffer> = {
  'gzip though nobody asked': http('201 Created', gzipSync(minted()), [json, 'content-encoding: gzip']),
  'gzip by its old name': http('201 Created', gzipSync(minted()), [json, 'Content-Encoding: X-GZIP']),
  brotli: http('201 Created', brotliCompressSync(minted()), [json, 'content-encoding: br']),
  deflate: http('201 Created', deflateSync(minted()), [json, 'content-encoding: deflate']),
  'deflate without its header': http('201 Created', deflateRawSync(minted()), [json, 'content-encoding: deflate']),
  'one over the other': http('201 Created', gzipSync(brotliCompressSync(minted())), [json, 'content-encoding: br, gzip']),
  'compressed, and the header dropped': http('201 Created', gzipSync(minted())),
  'decompressed, and the header kept': http('201 Created', minted(), [json, 'content-encoding: gzip']),
  'decompressed, and the header of brotli kept': http('201 Created', minted(), [json, 'content-encoding: br']),
  'an encoding that is none': http('201 Created', minted(), [json, 'content-encoding: utf-8, identity']),
  'a byte order mark': http('201 Created', `\ufeff${minted()}`),
  'another charset': http('201 Created', utf16, ['content-type: application/json; charset="UTF-16LE"']),
  'a charset that is none': http('201 Created', minted(), ['content-type: application/json; charset=utf-8-strict']),
  'a type of pages': http('200 OK', minted(), ['content-type: text/html; charset=utf-8']),
  'no type': http('200 OK', minted(), []),
  'small chunks, with extensions and a trailer': Buffer.from(`HTTP/1.1 201 Created\r\n${json}\r\ntransfer-encoding: chunked\r\n\r\n${chunked(minted())}`),
  'early hints before it': Buffer.concat([Buffer.from('HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n'), http('201 Created', minted())]),
  'white space around it': http('201 Created', `\r\n\t${minted()}\n`),
  'the same name twice, the last one counts': http('201 Created', `{"redirectUrl":"https://evil.test/","redirectUrl":${JSON.stringify((JSON.parse(minted()) as { redirectUrl: string }).redirectUrl)}}`),
}

test('replies that are odd in transport are understood', async (t) => {
  let answer: Buffer = Buffer.alloc(0)
  const { url } = await rawServer(t, (socket) => socket.write(answer))
  const portal = await portalOf(t, url)
  for (const [name, bytes] of Object.entries(ODD)) {
    answer = bytes
    t.match((await portal.ask(ANA)).body, { source: 'minted', redirectUrl: /pat_1$/ }, name)
    await portal.app.tooljetEmbed.forget({ email: ANA })
    await portal.redis.del(...(await portal.keys()).filter((key) => key.includes(':limit:')))
  }
})

test('a reply that is not what it says, or grows when it is decompressed, is refused', async (t) => {
  let answer: Buffer = Buffer.alloc(0)
  const { url } = await rawServer(t, (socket) => socket.write(answer))
  const portal = await portalOf(t, url)
  const bomb = JSON.stringify({ redirectUrl: `https://tooljet.test/${'a'.repeat(50_000_000)}` })
  const cases: [bytes: Buffer, remedy: RegExp][] = [
    [http('201 Created', gzipSync(bomb), [json, 'content-encoding: gzip']), /longer than 65536 bytes/],
    [http('201 Created', brotliCompressSync(bomb), [json, 'content-encoding: br']), /longer than 65536 bytes/],
    [http('201 Created', '<html>', [json, 'content-encoding: gzip']), /not gzip, as its Content-Encoding says/],
    [http('201 Created', gzipSync(minted()).subarray(0, 40), [json, 'content-encoding: gzip']), /not gzip/],
    [Buffer.from('HTTP/1.1 204 No Content\r\n\r\n'), /status 204/],
    [http('202 Accepted', minted()), /status 202/],
    [http('302 Found', '', ['location: https://login.acme.test/']), /redirects/],
    [http('201 Created', minted().replace(/redirectUrl/, 'redirectUrl":"https://tooljet.test/","redirectUrl').replace('https://tooljet.test/embed', 'https://evil.test/embed')), /origin https:\/\/evil\.test/],
  ]
  for (const [bytes, remedy] of cases) {
    answer = http('201 Created', minted())
    t.equal((await portal.ask(BEN)).status, 200, 'a reply that is one ends it')
    await portal.app.tooljetEmbed.forget({ email: BEN })
    answer = bytes
    portal.forgetLog()
    const { status, body } = await portal.ask(ANA)
    t.match({ status, body }, { status: 502, body: { code: 'TOOLJET_EMBED_BAD_REPLY' } }, String(remedy))
    t.match(`${portal.logText}${JSON.stringify(body)}`, remedy)
    await portal.redis.del(...(await portal.keys()).filter((key) => /:limit:|:urls$/.test(key)))
  }
})

test('what a gateway says of itself is no verdict on a user, and ToolJet\'s word on an address is none on the server', async (t) => {
  const portal = await Portal.open(t, { options: { rateLimit: false } })
  const { toolJet } = portal
  const verdicts: [reply: { status: number, body: unknown, headers?: Record<string, string> }, status: number, code: string, state: string][] = [
    [{ status: 403, body: { message: 'Forbidden' } }, 502, 'MISCONFIGURED', 'failing'],
    [{ status: 403, body: errorBody(403, 'no permission') }, 403, 'ACCESS_DENIED', 'ok'],
    [{ status: 404, body: { message: 'User not found' } }, 502, 'MISCONFIGURED', 'failing'],
    [{ status: 404, body: errorBody(404, 'User not found') }, 404, 'USER_NOT_FOUND', 'ok'],
    [{ status: 400, body: { message: 'email must be an email' } }, 502, 'BAD_REPLY', 'failing'],
    [{ status: 400, body: '<h1>400 Bad Request</h1>' }, 502, 'BAD_REPLY', 'failing'],
    [{ status: 400, body: errorBody(400, ['email must be an email']) }, 400, 'BAD_REQUEST', 'ok'],
    [{ status: 400, body: { statusCode: 400, message: ['email must be an email'], error: 'Bad Request' } }, 400, 'BAD_REQUEST', 'ok'],
    [{ status: 407, body: '' }, 502, 'MISCONFIGURED', 'failing'],
  ]
  for (const [i, [reply, status, code, state]] of verdicts.entries()) {
    toolJet.faults = () => ({ reply: { ...reply, headers: reply.headers ?? {} } as never })
    const app = { appSlug: `app-${i}` }
    t.match(await portal.ask(ANA, app), { status, body: { code: `TOOLJET_EMBED_${code}` } }, JSON.stringify(reply))
    t.equal((await portal.app.tooljetEmbed.health()).tooljet.state, state, JSON.stringify(reply))
  }
  toolJet.faults = undefined
  t.equal((await portal.ask(ANA)).status, 200)
})

test('what says that nothing was processed is asked again, and counted; what may have been processed is not', async (t) => {
  for (const status of ['408 Request Timeout', '421 Misdirected Request', '425 Too Early']) {
    const { url, requests } = await rawServer(t, (socket) => {
      if (requests.length > 1) socket.write(http('201 Created', minted()))
      else socket.end(http(status, '', ['connection: close']))
    })
    const portal = await portalOf(t, url)
    t.match((await portal.ask(ANA)).body, { source: 'minted' }, status)
    t.equal(requests.length, 2)
  }
  const never = await rawServer(t, (socket) => socket.write(http('408 Request Timeout', '')))
  t.match(await (await portalOf(t, never.url)).ask(ANA), { status: 503, body: { code: 'TOOLJET_EMBED_UNAVAILABLE' } })
  t.equal(never.requests.length, 3)

  for (const end of [(socket: Socket) => socket.destroy(), (socket: Socket) => socket.resetAndDestroy(), (socket: Socket) => socket.end('HTTP/1.1 201 Cre')]) {
    const fresh = await rawServer(t, end)
    t.match(await (await portalOf(t, fresh.url)).ask(ANA), { status: 503, body: { code: 'TOOLJET_EMBED_UNAVAILABLE' } })
    t.equal(fresh.requests.length, 1, 'a new connection is not one that lay idle')

    const used = await rawServer(t, (socket, _request, count) => (count === 1 ? socket.write(http('201 Created', minted())) : socket.write('HTTP/1.1 201 Cr', () => end(socket))))
    const portal = await portalOf(t, used.url)
    t.equal((await portal.ask(ANA)).status, 200)
    t.equal((await portal.ask(BEN)).status, 503)
    t.equal(used.requests.length, 2, 'nor is one on which an answer has begun')
  }
})

test('a connection that is closed as idle just when it is used again costs no user an error, and is told of', async (t) => {
  for (const close of [(socket: Socket) => socket.end(), (socket: Socket) => socket.destroy(), (socket: Socket) => socket.resetAndDestroy()]) {
    const { url, requests, connections } = await rawServer(t, (socket, _request, count) => {
      if (count === 1) socket.write(http('201 Created', minted(requests.length)))
      else close(socket)
    })
    const portal = await portalOf(t, url)
    for (const user of [ANA, BEN, CLEO]) t.match(await portal.ask(user), { status: 200, body: { source: 'minted' } })
    t.equal(requests.length, 5)
    t.equal(connections(), 3)
    t.equal(portal.logLines.filter(({ level, msg }) => level === 40 && /ToolJet closed a connection just when/.test(String(msg))).length, 2, 'not silently')
    t.equal((await portal.app.tooljetEmbed.health()).tooljet.state, 'ok')
  }
})

test('a server that ends a connection right after its answer, without saying so, loses nothing', async (t) => {
  const { url, requests, connections } = await rawServer(t, (socket) => socket.end(http('201 Created', minted())))
  const portal = await portalOf(t, url)
  for (let i = 0; i < 10; i++) t.equal((await portal.ask(`user${i}@acme.test`)).status, 200)
  t.equal(requests.length, 10)
  t.equal(connections(), 10)
})

test('a server that ends idle connections by a timer loses nothing', async (t) => {
  let count = 0
  const server = createHttpServer({ keepAliveTimeout: 1 }, (request, response) => {
    request.resume().once('end', () => response.writeHead(201, { 'content-type': 'application/json' }).end(minted(++count)))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => { server.closeAllConnections(); server.close() })
  const portal = await portalOf(t, `http://127.0.0.1:${(server.address() as AddressInfo).port}`)
  for (let i = 0; i < 10; i++) {
    t.equal((await portal.ask(`user${i}@acme.test`)).status, 200)
    server.closeIdleConnections()
  }
  t.equal(count, 10)
})
