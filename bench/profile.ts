import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { short } from './numbers.js'

interface CpuProfile {
  nodes: { id: number, callFrame: { functionName: string, url: string, lineNumber: number } }[]
  samples: number[]
  /** µs. */
  timeDeltas: number[]
}

const ROWS = 25

/** Functions by their own time, of each profile in a folder; waiting is left out. */
export function profileTable (folder: string): string {
  return readdirSync(folder).filter((file) => file.endsWith('.cpuprofile')).sort().map((file) => {
    const { nodes, samples, timeDeltas } = JSON.parse(readFileSync(join(folder, file), 'utf8')) as CpuProfile
    const places = new Map(nodes.map(({ id, callFrame: { functionName, url, lineNumber } }) => (
      [id, `${functionName || '(anonymous)'} ${shortUrl(url)}${url === '' ? '' : `:${lineNumber + 1}`}`]
    )))
    const times = new Map<string, number>()
    for (const [i, id] of samples.entries()) {
      const place = places.get(id)!
      times.set(place, (times.get(place) ?? 0) + timeDeltas[i]!)
    }
    times.delete('(idle) ')
    const total = [...times.values()].reduce((sum, time) => sum + time, 0)
    const rows = [...times].sort(([, a], [, b]) => b - a).slice(0, ROWS)
    return [file, ...rows.map(([place, time]) => `${short(time / total * 100).padStart(6)} %  ${place}`), ''].join('\n')
  }).join('\n')
}

function shortUrl (url: string): string {
  return url.replace(/^.*\/node_modules\//, '').replace(/^file:.*\/(?:dist|bench)\//, '')
}
