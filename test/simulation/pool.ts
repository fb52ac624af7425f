import { fork, type ChildProcess } from 'node:child_process'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Broken, Range } from './worker.js'

const REPOSITORY = fileURLToPath(new URL('../..', import.meta.url))
const CHUNK = 200

interface RunOptions {
  redisUrl: string
  /** Processes. */
  jobs: number
  /** Repository whose plugin is run; default: this one. */
  folder?: string
  /** Seeds that a process gets at once. */
  chunk?: number
  /** How many are done, and what broke in the last of them. */
  onProgress?: (done: number, broken: Broken[]) => void
  /** Whether the rest can be left out. */
  isEnough?: (broken: Broken[]) => boolean
}

/** Runs the schedules of all these seeds in several processes. */
export async function runSeeds ({ from, to }: Range, { redisUrl, jobs, folder = REPOSITORY, chunk = CHUNK, onProgress = () => {}, isEnough = () => false }: RunOptions): Promise<Broken[]> {
  const all: Broken[] = []
  const size = Math.max(1, Math.min(chunk, Math.ceil((to - from) / jobs)))
  let next = from
  let done = 0
  const work = async (): Promise<void> => {
    const child = fork(join(folder, 'test/simulation/worker.ts'), { cwd: folder, execArgv: ['--import', 'tsx', '--max-semi-space-size=64', '--stack-trace-limit=0'], env: { ...process.env, SIMULATION_REDIS: redisUrl } })
    const killOnExit = (): void => { child.kill('SIGKILL') }
    process.once('exit', killOnExit)
    try {
      while (next < to && !isEnough(all)) {
        const range = { from: next, to: Math.min(next + size, to) }
        next = range.to
        const broken = await ask(child, range)
        done += range.to - range.from
        all.push(...broken)
        onProgress(done, broken)
      }
    } finally {
      process.off('exit', killOnExit)
      child.kill()
    }
  }
  await Promise.all(Array.from({ length: Math.min(jobs, Math.ceil((to - from) / size)) }, work))
  return all.sort((one, other) => one.seed - other.seed)
}

function ask (child: ChildProcess, range: Range): Promise<Broken[]> {
  return new Promise((resolve, reject) => {
    const ended = (code: number | null): void => reject(new Error(`the process of seeds ${range.from} to ${range.to} ended with code ${code}`))
    child.once('exit', ended)
    child.once('message', ({ broken }: { broken: Broken[] }) => {
      child.off('exit', ended)
      resolve(broken)
    })
    child.send(range)
  })
}
