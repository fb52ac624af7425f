import { readFileSync } from 'node:fs'
import type { Readable } from 'node:stream'
import { EXIT, unexpected, UnreachableError, UsageError } from './errors.js'
import { Output, type OutputStream } from './output.js'

/** What a program has of the world. */
export interface Io {
  /** Not in every test. */
  stdin?: Readable
  stdout: OutputStream
  stderr: OutputStream
  env: NodeJS.ProcessEnv
  /**
   * From its first call on it is the signal, and not the system, that ends the program on Ctrl-C.
   * @param endsAtOnce exit code of a second Ctrl-C; default: that one changes nothing
   */
  interrupted: (endsAtOnce?: number) => AbortSignal
}

/** A program. @param args after its name @returns the exit code */
export type Program = (args: string[], io: Io) => Promise<number>

/** Runs a program, and tells what goes wrong. @param what gives the exit code */
export async function runProgram (name: string, io: Io, what: (out: Output) => Promise<number>): Promise<number> {
  const out = new Output(io.stdout, io.stderr, io.env)
  try {
    const code = await what(out)
    await out.flush()
    if (out.failure !== undefined) throw new UsageError(`the results cannot be written: ${out.failure.message}`)
    return code
  } catch (error) {
    if (!(error instanceof UsageError) && !(error instanceof UnreachableError)) {
      out.note(unexpected(name, error))
      return EXIT.unexpected
    }
    out.note(`${name}: ${error.message}`)
    if (error instanceof UnreachableError) return EXIT.unreachable
    out.note(`${name} ${error.command === undefined ? '' : `${error.command} `}--help tells more`)
    return EXIT.usage
  }
}

export async function writeVersion (out: Output): Promise<number> {
  const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string }
  await out.write(`${version}\n`)
  return EXIT.fine
}
