import { execFile } from 'node:child_process'
import { accessSync, constants, writeFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { promisify } from 'node:util'
import autocannon, { type Request } from 'autocannon'
import { NUMBER, type UserRequest } from './requests.js'
import { percentile } from './statistics.js'
import { PATH } from './servers/serve.js'

export interface Load {
  url: string
  requests: readonly UserRequest[]
  connections: number
  /** Whole ones. */
  seconds: number
  /** For a file that the load's program reads. */
  folder: string
}

export interface Loaded {
  count: number
  seconds: number
  /** Milliseconds. */
  p50: number
  p99: number
}

const wrk = (process.env['PATH'] ?? '').split(delimiter).map((folder) => join(folder, 'wrk')).find((path) => {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
})

/** What makes the load on this machine. */
export const LOAD_BY = wrk === undefined ? 'autocannon' : 'wrk'

let lastNumber = 500_000_000_000
/** Longer than any load's count of requests. */
const NUMBERS_PER_LOAD = 1_000_000

/** Loads a server from outside of its process. @throws when an answer is not 200 */
export async function applyLoad (load: Load): Promise<Loaded> {
  lastNumber += NUMBERS_PER_LOAD
  return wrk === undefined ? withAutocannon(load) : withWrk(wrk, load)
}

async function withWrk (program: string, { url, requests, connections, seconds, folder }: Load): Promise<Loaded> {
  const script = join(folder, 'load.lua')
  writeFileSync(script, `
local number = ${lastNumber}
local requests = {${requests.map(({ headers, body }) => `{${luaTable(headers)}, ${luaString(body)}}`).join(',\n')}}
local isNumbered = ${requests[0]!.body.includes(NUMBER)}
local ready, at = {}, 0

function init ()
  if isNumbered then return end
  for i, one in ipairs(requests) do ready[i] = wrk.format('POST', '${PATH}', one[1], one[2]) end
end

function request ()
  at = at % #requests + 1
  if not isNumbered then return ready[at] end
  number = number + 1
  return wrk.format('POST', '${PATH}', requests[at][1], (requests[at][2]:gsub('${NUMBER}', string.format('%012d', number))))
end

function done (summary, latency)
  local errors = summary.errors
  io.write(string.format('DONE {"count":%d,"seconds":%f,"p50":%f,"p99":%f,"wrong":%d}\\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
`)
  const { stdout } = await promisify(execFile)(program, ['-t1', `-c${connections}`, `-d${seconds}s`, '--timeout', '10s', '-s', script, url])
  const { wrong, ...loaded } = JSON.parse(/^DONE (.*)$/m.exec(stdout)![1]!) as Loaded & { wrong: number }
  return checked(loaded, wrong)
}

function luaTable (fields: Record<string, string>): string {
  return `{${Object.entries(fields).map(([name, value]) => `[${luaString(name)}]=${luaString(value)}`).join(',')}}`
}

/** JSON's escapes are Lua's, for plain ASCII. */
function luaString (text: string): string {
  return JSON.stringify(text)
}

async function withAutocannon ({ url, requests, connections, seconds }: Load): Promise<Loaded> {
  const prepared = requests.map(({ headers, body }): Request => ({
    method: 'POST',
    path: PATH,
    headers,
    body,
    ...(body.includes(NUMBER) && { setupRequest: (request: Request) => ({ ...request, body: body.replace(NUMBER, String(++lastNumber)) }) }),
  }))
  const latencies: number[] = []
  let clients = 0
  const result = await new Promise<autocannon.Result>((resolve, reject) => {
    const instance = autocannon({
      url,
      connections,
      duration: seconds,
      requests: prepared,
      // not all of them on the same user at the same time
      setupClient (client) {
        const start = Math.floor(clients++ * prepared.length / connections)
        client.setRequests([...prepared.slice(start), ...prepared.slice(0, start)])
      },
    }, (error: Error | null, result) => { if (error) reject(error); else resolve(result) })
    instance.on('response', (_client, _status, _bytes, ms) => { latencies.push(ms) })
  })
  const { requests: { total }, duration, non2xx, errors, timeouts } = result
  return checked({ count: total, seconds: duration, p50: percentile(latencies, 50), p99: percentile(latencies, 99) }, non2xx + errors + timeouts)
}

function checked (loaded: Loaded, wrong: number): Loaded {
  if (wrong > 0) throw new Error(`${wrong} of ${loaded.count} requests were not answered with 200`)
  return loaded
}
