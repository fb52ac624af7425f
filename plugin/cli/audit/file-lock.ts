import { readFile, rename, rm, writeFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import { UsageError } from '../errors.js'

/** Retries for a lock without an owner yet, or whose owner has ended. */
const ATTEMPTS = 10
const PAUSE_MS = 20

/** Prevents a second run on the same file: `FILE.lock` has the process's id and the host. */
export class FileLock {
  private constructor (private readonly path: string) {}

  /** @throws UsageError when a running process has it, or one on another host, which cannot be checked */
  static async take (file: string): Promise<FileLock> {
    const path = `${file}.lock`
    for (let attempt = 1; ; attempt++) {
      if (await created(path, `${process.pid} ${hostname()}\n`)) return new FileLock(path)
      const text = await readIfThere(path)
      if (text === undefined) continue
      const [pid = '', host = ''] = text.trim().split(' ')
      // just created: its owner writes its id in a moment
      if (text === '' && attempt < ATTEMPTS) await sleep(PAUSE_MS)
      else if (attempt > ATTEMPTS || isRunning(Number(pid), host)) throw new UsageError(`another export (process ${pid} on ${host}) writes to it; if that has ended, delete ${path}`)
      else await takeAway(path, text)
    }
  }

  async release (): Promise<void> {
    await rm(this.path, { force: true })
  }
}

async function created (path: string, text: string): Promise<boolean> {
  try {
    await writeFile(path, text, { flag: 'wx', mode: 0o600 })
    return true
  } catch (error) {
    if (isError(error, 'EEXIST')) return false
    throw error
  }
}

async function readIfThere (path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if (isError(error, 'ENOENT')) return undefined
    throw error
  }
}

function isRunning (pid: number, host: string): boolean {
  if (host !== '' && host !== hostname()) return true // it cannot be checked from here
  if (!Number.isSafeInteger(pid) || pid <= 0 || pid === process.pid) return false // in a container every run may have the same id
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return !isError(error, 'ESRCH')
  }
}

/** Removes the lock of a process that has ended; the one of another process that took it over meanwhile is put back. */
async function takeAway (path: string, text: string): Promise<void> {
  const aside = `${path}.${process.pid}`
  try {
    await rename(path, aside)
  } catch (error) {
    if (isError(error, 'ENOENT')) return
    throw error
  }
  const taken = await readFile(aside, 'utf8')
  if (taken !== text) await created(path, taken)
  await rm(aside)
}

function isError (error: unknown, code: string): boolean {
  return (error as NodeJS.ErrnoException).code === code
}
