import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { format } from './statistics.js'

interface CpuProfile {
  nodes: { id: number, callFrame: { functionName: string, url: string, lineNumber: number } }[]
  samples: number[]
  /** µs. */
  timeDeltas: number[]
}

const ROWS = 25
const PARTS = 10

/** Own times of each profile in a folder, by part and by function; waiting is left out. */
export function profileTable (folder: string): string {
  return readdirSync(folder).filter((file) => file.endsWith('.cpuprofile')).sort().map((file) => {
    const { nodes, samples, timeDeltas } = JSON.parse(readFileSync(join(folder, file), 'utf8')) as CpuProfile
    const frames = new Map(nodes.map(({ id, callFrame }) => [id, callFrame]))
    const timed = samples.map((id, i) => ({ ...frames.get(id)!, time: timeDeltas[i]! })).filter(({ functionName }) => functionName !== '(idle)')
    return [
      file,
      ...shares(timed.map(({ time, url, functionName }) => [partOf(url, functionName), time]), PARTS),
      '',
      ...shares(timed.map(({ time, functionName, url, lineNumber }) => (
        [`${functionName || '(anonymous)'} ${url === '' ? '' : `${shortUrl(url)}:${lineNumber + 1}`}`, time]
      )), ROWS),
      '',
    ].join('\n')
  }).join('\n')
}

function shares (timed: [name: string, time: number][], rows: number): string[] {
  const times = new Map<string, number>()
  for (const [name, time] of timed) times.set(name, (times.get(name) ?? 0) + time)
  const total = timed.reduce((sum, [, time]) => sum + time, 0)
  const sorted = [...times].sort(([, a], [, b]) => b - a).slice(0, rows)
  return sorted.map(([name, time]) => `${format(time / total * 100).padStart(6)} %  ${name}`)
}

/** A package, a folder of the plugin, or what is not JavaScript. */
function partOf (url: string, functionName: string): string {
  if (url === '') return functionName.startsWith('(') ? functionName : 'native'
  const [, name] = /\/node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(url) ?? []
  if (name !== undefined) return name
  return url.startsWith('node:') ? 'node' : `plugin and host: ${shortUrl(url).split('/')[0]}`
}

function shortUrl (url: string): string {
  return url.replace(/^.*\/node_modules\//, '').replace(/^file:.*\/(?:dist|bench)\//, '')
}
