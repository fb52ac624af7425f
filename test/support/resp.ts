/*
 * As much of RESP 2 and 3 as a proxy has to know: what each command says, and where each reply begins and ends.
 */

const CR = 0x0d
const LF = 0x0a

/** Gathers the commands that a client sends. */
export class CommandReader {
  #held: Buffer[] = []
  #size = 0
  /** Less than that is no whole command: a large one is put together once. */
  #needed = 1

  /** @returns the arguments of each command that ends in this chunk */
  read (chunk: Buffer): Buffer[][] {
    this.#held.push(chunk)
    this.#size += chunk.length
    const commands: Buffer[][] = []
    if (this.#size < this.#needed) return commands
    const bytes = this.#held.length === 1 ? chunk : Buffer.concat(this.#held)
    let at = 0
    for (;;) {
      const command = commandAt(bytes, at)
      if (typeof command === 'number') {
        this.#needed = command - at
        break
      }
      commands.push(command.args)
      at = command.end
    }
    this.#held = [bytes.subarray(at)]
    this.#size = bytes.length - at
    return commands
  }
}

/** @returns the command that begins there, or how many bytes there have to be at least */
function commandAt (bytes: Buffer, begin: number): { args: Buffer[], end: number } | number {
  let at = begin
  const numberAfter = (type: string): number | undefined => {
    const lineEnd = bytes.indexOf(LF, at)
    if (lineEnd === -1) return undefined
    if (bytes[at] !== type.charCodeAt(0)) throw new Error(`a client sent "${bytes.toString('latin1', at, lineEnd)}" where "${type}" was due`)
    const n = Number(bytes.toString('latin1', at + 1, lineEnd - 1))
    at = lineEnd + 1
    return n
  }
  const count = numberAfter('*')
  if (count === undefined) return bytes.length + 1
  const args: Buffer[] = []
  while (args.length < count) {
    const length = numberAfter('$')
    if (length === undefined) return bytes.length + 1
    if (bytes.length < at + length + 2) return at + length + 2
    args.push(bytes.subarray(at, at + length))
    at += length + 2
  }
  return { args, end: at }
}

/** Finds the end of each reply, whatever its type and however it is split over chunks; keeps none of it. */
export class ReplyScanner {
  /** Values of the reply that are still to begin. */
  #values = 0
  /** Bytes of a string that are still to come. */
  #bytes = 0
  /** The begin of a line whose end is still to come. */
  #line: Buffer = Buffer.alloc(0)

  /** No reply is half here. */
  get isBetween (): boolean {
    return this.#values === 0 && this.#bytes === 0
  }

  /** @returns where the reply ends that is here at `at`, or begins there; `undefined`: not in this chunk */
  scan (chunk: Buffer, at: number): number | undefined {
    if (this.isBetween) this.#values = 1
    while (at < chunk.length) {
      if (this.#bytes > 0) {
        const step = Math.min(this.#bytes, chunk.length - at)
        this.#bytes -= step
        at += step
      } else {
        const lineEnd = chunk.indexOf(LF, at)
        const part = chunk.subarray(at, lineEnd === -1 ? undefined : lineEnd + 1)
        this.#line = this.#line.length === 0 ? part : Buffer.concat([this.#line, part])
        at += part.length
        if (lineEnd === -1) break
        this.#begin(this.#line)
        this.#line = Buffer.alloc(0)
      }
      if (this.isBetween) return at
    }
    return undefined
  }

  #begin (line: Buffer): void {
    const type = String.fromCharCode(line[0]!)
    const length = Math.max(0, Number(line.toString('latin1', 1, line.indexOf(CR))))
    const isNull = line[1] === 0x2d // '-'
    switch (type) {
      case '$': // strings
      case '=':
      case '!':
        this.#values--
        if (!isNull) this.#bytes = length + 2
        return
      case '*': // what has parts
      case '~':
      case '>':
        this.#values += length - 1
        return
      case '%':
        this.#values += 2 * length - 1
        return
      case '|': // attributes of the value that follows
        this.#values += 2 * length
        return
      default:
        this.#values--
    }
  }
}
