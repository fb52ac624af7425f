import { open, readFile, rename, type FileHandle } from 'node:fs/promises'
import { compareIds, isEntryId, type AuditFilters } from '../../audit/reader.js'
import { fileError, UsageError } from '../errors.js'
import type { ExportFormat } from './export-format.js'
import { FileLock } from './file-lock.js'

const NO_FILTERS = 'no filter'
const NEWLINE = 0x0a
const CHUNK_BYTES = 65_536
/** Longer than any event. */
const MAX_LINE_BYTES = 1_048_576
/** The position is saved after this many events. */
const CHECKPOINT = 10_000

interface ExportFileOptions {
  /** File of the position. */
  state: string
  /** Stream of the position. */
  stream: string
  /** Filters of the position, without times. */
  filters: AuditFilters
  format: ExportFormat
}

/**
 * A file of exported events that grows, and may be rotated. It has complete lines only, however an export ended, and one run
 * at a time writes to it. The position is saved beside it, always after the events.
 */
export class ExportFile {
  readonly #path: string
  readonly #options: ExportFileOptions
  readonly #lock: FileLock
  readonly #handle: FileHandle
  #lastId: string | undefined
  /** Events since the position was saved. */
  #unkept = 0

  private constructor (path: string, options: ExportFileOptions, handle: FileHandle, lock: FileLock) {
    this.#path = path
    this.#options = options
    this.#handle = handle
    this.#lock = lock
  }

  /**
   * Opens a file or makes one that only its owner can read, and cuts off a line that was not written to its end.
   * @throws UsageError when it cannot be written to, does not end in an export, or another run writes to it
   */
  static async open (path: string, options: ExportFileOptions): Promise<ExportFile> {
    const handle = await named(path, () => open(path, 'a+', 0o600))
    let lock: FileLock | undefined
    try {
      lock = await named(path, () => lockOf(path, handle))
      const file = new ExportFile(path, options, handle, lock)
      await file.#findPosition()
      return file
    } catch (error) {
      await handle.close()
      await lock?.release()
      throw error
    }
  }

  /** Id of the last event that was exported. */
  get lastId (): string | undefined {
    return this.#lastId
  }

  /** @param lastId of the last event in these lines */
  async append (lines: string, events: number, lastId: string): Promise<void> {
    await named(this.#path, () => this.#handle.appendFile(lines))
    this.#lastId = lastId
    this.#unkept += events
    if (this.#unkept >= CHECKPOINT) await this.flush()
  }

  /** Syncs the events to the disk, and then the position. */
  async flush (): Promise<void> {
    if (this.#unkept === 0) return
    this.#unkept = 0
    await named(this.#path, () => this.#handle.sync())
    await keep(this.#options, this.#lastId!)
  }

  async close (): Promise<void> {
    await this.#handle.close()
    await this.#lock.release()
  }

  /** The file may be ahead of the position, when a run broke off, or behind it, when it was rotated. */
  async #findPosition (): Promise<void> {
    const inFile = await named(this.#path, () => prepared(this.#handle, this.#options.format))
    const kept = await keptIn(this.#options)
    const isAhead = inFile !== undefined && (kept === undefined || compareIds(inFile, kept) > 0)
    this.#lastId = isAhead ? inFile : kept
    this.#unkept = isAhead ? 1 : 0
  }
}

/** Adds the file's name to an error. */
async function named<T> (path: string, action: () => Promise<T>, option = '--out'): Promise<T> {
  try {
    return await action()
  } catch (error) {
    throw fileError(`${option} ${path}`, error)
  }
}

async function lockOf (path: string, handle: FileHandle): Promise<FileLock> {
  if (!(await handle.stat()).isFile()) throw new UsageError('it is no file; without --out the events go to stdout')
  return FileLock.take(path)
}

async function keptIn ({ state, stream, filters }: ExportFileOptions): Promise<string | undefined> {
  return named(state, async () => {
    let text: string
    try {
      text = await readFile(state, 'utf8')
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
      throw error
    }
    const position = parsed(text) as { stream?: unknown, id?: unknown, filters?: object } | null | undefined
    if (!isEventId(position?.id)) throw new UsageError('it is no position of an earlier export, and is left as it is')
    if (position?.stream !== stream) throw new UsageError(`it is the position in another stream, ${String(position?.stream)}`)
    const [ours, theirs] = [filters, position.filters ?? {}].map(described)
    if (ours !== theirs) throw new UsageError(`it is the position of an export with ${theirs}, and not with ${ours}: what that one left out would never be exported`)
    return position.id as string
  }, '--state')
}

async function keep ({ state, stream, filters }: ExportFileOptions, id: string): Promise<void> {
  await named(state, async () => {
    const next = `${state}.new`
    const handle = await open(next, 'w', 0o600)
    try {
      await handle.writeFile(`${JSON.stringify({ stream, id, ...(described(filters) !== NO_FILTERS && { filters: lasting(filters) }) })}\n`)
      await handle.sync()
    } finally {
      await handle.close()
    }
    await rename(next, state)
  }, '--state')
}

/** The filters without the times. */
function lasting ({ since: _, until: __, ...filters }: AuditFilters): object {
  return filters
}

function described (filters: object): string {
  return Object.entries(lasting(filters)).sort().map(([name, value]) => `--${name.replace('_', '-')} ${String(value)}`).join(' ') || NO_FILTERS
}

/** @returns the id in the last complete line, after which the file now ends */
async function prepared (handle: FileHandle, format: ExportFormat): Promise<string | undefined> {
  const { size } = await handle.stat()
  const { line, end, torn } = await lastLine(handle, size)
  if (line === undefined && !format.lineStart.startsWith(torn.slice(0, format.lineStart.length))) throw notAnExport()
  const id = line === undefined ? undefined : format.idOf(parsed(line))
  if (line !== undefined && !isEventId(id)) throw notAnExport()
  if (end < size) await handle.truncate(end)
  return id as string | undefined
}

function parsed (json: string): unknown {
  try {
    return JSON.parse(json)
  } catch {
    return undefined
  }
}

function isEventId (id: unknown): boolean {
  return typeof id === 'string' && isEntryId(id)
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
  return new UsageError('it does not end in a line of an earlier export in this format, and is left as it is')
}
