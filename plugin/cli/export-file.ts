import { open, type FileHandle } from 'node:fs/promises'
import { fileError, UsageError } from './errors.js'

const NEWLINE = 0x0a
const CHUNK_BYTES = 65_536
/** Far more than an event may take. */
const MAX_LINE_BYTES = 1_048_576
const LINE_START = '{"id":"'

/** A file of exported events that grows: what is in it is complete lines, whenever and however an export ended. */
export class ExportFile {
  private constructor (readonly path: string, private readonly handle: FileHandle, readonly lastId: string | undefined) {}

  /**
   * Opens a file or makes one that only its owner can read, and cuts off a line that was not written to its end.
   * @throws UsageError when it cannot be written to, or does not end in an export
   */
  static async open (path: string): Promise<ExportFile> {
    return named(path, async () => {
      const handle = await open(path, 'a+', 0o600)
      try {
        return new ExportFile(path, handle, await prepared(handle))
      } catch (error) {
        await handle.close()
        throw error
      }
    })
  }

  append (lines: string): Promise<void> {
    return named(this.path, () => this.handle.appendFile(lines))
  }

  /** Has all on the disk. */
  flush (): Promise<void> {
    return named(this.path, () => this.handle.datasync())
  }

  async close (): Promise<void> {
    await this.handle.close()
  }
}

/** What goes wrong with a file, with its name. */
async function named<T> (path: string, action: () => Promise<T>): Promise<T> {
  try {
    return await action()
  } catch (error) {
    throw fileError(`--out ${path}`, error)
  }
}

/** @returns the id in the last complete line, after which the file now ends */
async function prepared (handle: FileHandle): Promise<string | undefined> {
  const stat = await handle.stat()
  if (!stat.isFile()) throw new UsageError('it is no file; without --out the events go to stdout')
  const { line, end, torn } = await lastLine(handle, stat.size)
  if (line === undefined && !LINE_START.startsWith(torn.slice(0, LINE_START.length))) throw notAnExport()
  const id = line === undefined ? undefined : idOf(line)
  if (end < stat.size) await handle.truncate(end)
  return id
}

function idOf (line: string): string {
  let parsed: unknown
  try {
    parsed = JSON.parse(line)
  } catch {
    throw notAnExport()
  }
  const id = (parsed as { id?: unknown } | null)?.id
  if (typeof id === 'string' && /^\d+-\d+$/.test(id)) return id
  throw notAnExport()
}

/** Reads from the file's end. @returns the last complete line, where it ends, and what follows it */
async function lastLine (handle: FileHandle, size: number): Promise<{ line: string | undefined, end: number, torn: string }> {
  let read: Buffer = Buffer.alloc(0)
  for (let start = size; start > 0;) {
    const chunk = Buffer.alloc(Math.min(CHUNK_BYTES, start))
    start -= chunk.length
    await handle.read(chunk, 0, chunk.length, start)
    read = Buffer.concat([chunk, read])
    const end = read.lastIndexOf(NEWLINE)
    const before = end > 0 ? read.lastIndexOf(NEWLINE, end - 1) : -1
    if (end !== -1 && (before !== -1 || start === 0)) {
      return { line: read.toString('utf8', before + 1, end), end: start + end + 1, torn: read.toString('utf8', end + 1) }
    }
    if (read.length > MAX_LINE_BYTES) throw notAnExport()
  }
  return { line: undefined, end: 0, torn: read.toString('utf8') }
}

function notAnExport (): UsageError {
  return new UsageError('it does not end in a line of an earlier export, and is left as it is')
}
