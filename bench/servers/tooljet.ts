import { randomBytes } from 'node:crypto'
import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { markOf, SALES } from './token-mark.js'
import { serve } from './serve.js'

/*
 * A ToolJet that does nothing but mint, in a few microseconds: the example's stand-in remembers every token, and would
 * be what a benchmark of mints measures. A real one takes longer, so this favours candidates that mint often.
 */

const WITHOUT_LIMIT = { latencyMs: 0, mintsPerMinute: 0, minuteMs: 60_000 }

async function jsonOf (request: IncomingMessage): Promise<Record<string, string>> {
  let text = ''
  for await (const chunk of request.setEncoding('utf8')) text += String(chunk)
  return JSON.parse(text) as Record<string, string>
}

await serve(async ({ toolJet: { latencyMs, mintsPerMinute, minuteMs } = WITHOUT_LIMIT }) => {
  let minted: number[] = []
  let mints = 0
  let refusals = 0
  const isBusy = (): boolean => {
    if (mintsPerMinute === 0) return false
    minted = minted.filter((at) => at > performance.now() - minuteMs)
    return minted.length >= mintsPerMinute
  }

  const server = createServer(async (request, response) => {
    const { email = '', appId = '' } = await jsonOf(request)
    if (latencyMs > 0) await sleep(latencyMs)
    if (isBusy()) {
      refusals++
      response.writeHead(429, { 'content-type': 'application/json', 'retry-after': String(Math.ceil(minuteMs / 1000)) })
      response.end('{"statusCode":429,"message":"ThrottlerException: Too Many Requests"}')
      return
    }
    mints++
    if (mintsPerMinute > 0) minted.push(performance.now())
    const token = `pat_${markOf(email)}${randomBytes(8).toString('hex')}`
    const redirectUrl = `${url}/embed-apps/${appId}?personal-access-token=${token}&appSlug=${appId === SALES ? 'sales' : appId}`
    response.writeHead(201, { 'content-type': 'application/json' })
    response.end(JSON.stringify({ personalAccessToken: token, redirectUrl }))
  })
  server.keepAliveTimeout = 60_000
  await new Promise<void>((resolve) => { server.listen(0, '127.0.0.1', resolve) })
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return { url, figures: { mints: () => mints, refusals: () => refusals }, close: async () => server.close() }
})
