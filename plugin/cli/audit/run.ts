import type { Context } from './command.js'
import { COMMANDS } from './command-list.js'
import type { Connection } from '../connection.js'
import { EXIT, UsageError } from '../errors.js'
import type { Output } from '../output.js'
import { parseOptions, type ParsedOptions } from '../options.js'
import { runProgram, writeVersion, type Program, type Io } from '../run-program.js'

const DEFAULT_REDIS = 'redis://127.0.0.1:6379'
const DEFAULT_STREAM = 'tooljet-embed:audit'

export const run: Program = (args, io) => runProgram('tooljet-embed-audit', io, (out) => runCommand(args, out, io))

async function runCommand (args: string[], out: Output, io: Io): Promise<number> {
  const name = args[0]
  const command = name !== undefined && Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined
  if (name === undefined || command === undefined) return runWithoutCommand(args, out)

  const { given, positionals } = parseOptions(args.slice(1), command.options, name)
  if (given.help !== undefined) {
    const { commandHelp } = await import('./help.js')
    await out.write(commandHelp(name, command))
    return EXIT.fine
  }
  if (positionals.length > 0) throw new UsageError(`unexpected argument "${positionals[0]}", ${name} has options only`, name)

  const close: (() => void)[] = []
  const stream = given.stream ?? DEFAULT_STREAM
  const context: Context = {
    given,
    stream,
    out,
    env: io.env,
    interrupted: io.interrupted,
    connect: async (isPatient = false) => {
      const { Connection } = await import('../connection.js')
      const connection = await Connection.open({
        url: given.redis ?? (io.env['REDIS_URL'] || DEFAULT_REDIS),
        isPatient,
        onChange: (isThere) => out.note(isThere ? 'Redis connection restored' : 'Redis connection lost, trying again'),
      })
      close.push(() => connection.close())
      const { code } = context.given
      if (code !== undefined) await assertKnown(code, connection, stream)
      return connection
    },
  }
  try {
    context.given = await resolve(given, out)
    return await (await command.load())(context)
  } catch (error) {
    throw await toUserError(error, name)
  } finally {
    for (const end of close) end()
  }
}

/** Resolves the filters; the module is loaded only where there are some. */
async function resolve (given: ParsedOptions, out: Output): Promise<ParsedOptions> {
  if (given.since === undefined && given.until === undefined && given.code === undefined) return given
  const { resolveFilters } = await import('./filters.js')
  return resolveFilters(given, out)
}

async function assertKnown (code: string, connection: Connection, stream: string): Promise<void> {
  const [{ AuditReader }, { assertKnownCode }] = await Promise.all([import('../../audit/reader.js'), import('./codes.js')])
  await assertKnownCode(code, new AuditReader(connection, stream))
}

/** `--help` and `--version`, which need no command. */
async function runWithoutCommand (args: string[], out: Output): Promise<number> {
  const { given, positionals }: { given: ParsedOptions, positionals: string[] } = parseOptions(args, ['version'])
  const commands = Object.keys(COMMANDS).join(', ')
  if (positionals.length > 0) throw new UsageError(`unknown command "${positionals[0]}", expected one of ${commands}`)
  if (given.version !== undefined) return writeVersion(out)
  if (given.help === undefined) throw new UsageError(`the command is missing, expected one of ${commands}`)
  const { overallHelp } = await import('./help.js')
  await out.write(overallHelp(COMMANDS))
  return EXIT.fine
}

/** The error of a command for people; a defect of the program is returned as it is. */
async function toUserError (error: unknown, command: string): Promise<unknown> {
  if (error instanceof UsageError) return new UsageError(error.message, command, { cause: error })
  if (!(error instanceof Error) || error.name !== 'ReplyError') return error
  const { explainReply } = await import('./reply-errors.js')
  return explainReply(error, command)
}
