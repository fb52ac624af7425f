import { readFileSync } from 'node:fs'
import type { Readable } from 'node:stream'
import { EXIT, unexpected, UnreachableError, UsageError } from './errors.js'
import { Output, type OutputStream } from './output.js'

/** Input and output of a program. */
export interface Io {
  /** Omitted in some tests. */
  stdin?: Readable
  stdout: OutputStream
  stderr: OutputStream
  env: NodeJS.ProcessEnv
  /**
   * Returns a signal that is aborted on Ctrl-C; without a call, Ctrl-C ends the program at once.
   * @param endsAtOnce exit code of a second Ctrl-C; by default that one has no effect
   */
  interrupted: (endsAtOnce?: number) => AbortSignal
}

/** A program of the command line. @param args the arguments after its name @returns the exit code */
export type Program = (args: string[], io: Io) => Promise<number>

/** Runs a program, and reports its errors. @param main returns the exit code */
export async function runProgram (name: string, io: Io, main: (out: Output) => Promise<number>): Promise<number> {
  const out = new Output(io.stdout, io.stderr, io.env)
  try {
    const code = await main(out)
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
