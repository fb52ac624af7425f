import { fork, type ChildProcess } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import type { Broken, Range } from './worker.js'

const WORKER = fileURLToPath(new URL('worker.ts', import.meta.url))
/** Seeds that a process gets at once. */
const CHUNK = 200

/**
 * Runs the schedules of all these seeds in several processes.
 * @param onProgress how many are done
 */
export async function runSeeds ({ from, to }: Range, { redisUrl, jobs, mutant, onProgress = () => {} }: { redisUrl: string, jobs: number, mutant?: string | undefined, onProgress?: (done: number, broken: Broken[]) => void }): Promise<Broken[]> {
  const all: Broken[] = []
  const size = Math.max(1, Math.min(CHUNK, Math.ceil((to - from) / jobs)))
  let next = from
  let done = 0
  const work = async (): Promise<void> => {
    const child = fork(WORKER, { execArgv: ['--import', 'tsx'], env: { ...process.env, SIMULATION_REDIS: redisUrl, ...(mutant !== undefined && { SIMULATION_MUTANT: mutant }) } })
    const killOnExit = (): void => { child.kill('SIGKILL') }
    process.once('exit', killOnExit)
    try {
      while (next < to) {
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
