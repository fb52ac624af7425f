import { createHash } from 'node:crypto'
import { CommandReader, ReplyScanner } from './resp.js'
import { TcpProxy, type Carried, type Inspector } from './tcp-proxy.js'

/** A command on its way to Redis. */
export interface Command {
  /** In capitals. */
  name: string
  args: Buffer[]
  /** Of a script: its digest, whether it is sent by that or in full; of a function: its name. */
  script?: string
}

/**
 * What becomes of a reply, once Redis has carried out the command: 'lose' drops it and cuts the connection, as a
 * network does that fails on the way back; what came before it arrives. Others arrive later, and all after them.
 */
export type Fate = 'lose' | { delayMs: number } | undefined

/** A TCP proxy that knows the commands it carries to Redis, and what each reply belongs to. */
export class ReplyProxy extends TcpProxy {
  /** Asked once for each command as it passes. */
  fate: ((command: Command) => Fate) | undefined
  /** Replies that were lost. */
  lost = 0

  static override async to (targetPort: number): Promise<ReplyProxy> {
    return new ReplyProxy(targetPort).listen()
  }

  protected override inspector (): Inspector {
    const commands = new CommandReader()
    const replies = new ReplyScanner()
    const fates: Fate[] = []
    let losing = false
    let isCut = false
    return {
      request: (chunk) => {
        for (const args of commands.read(chunk)) fates.push(this.fate?.(commandOf(args)))
      },
      reply: (chunk) => {
        const pieces: (Carried | 'cut')[] = []
        let from = 0
        let delayMs = 0
        const carry = (to: number): void => {
          if (to > from) pieces.push({ bytes: chunk.subarray(from, to), ...(delayMs > 0 && { delayMs }) })
          from = to
          delayMs = 0
        }
        for (let at = 0; at < chunk.length && !isCut;) {
          if (replies.isBetween && chunk[at] !== PUSH) {
            const fate = fates.shift()
            if (fate !== undefined) carry(at)
            if (fate === 'lose') losing = true
            else if (fate !== undefined) delayMs = fate.delayMs
          }
          const end = replies.scan(chunk, at)
          if (losing && end !== undefined) {
            isCut = true
            this.lost++
            pieces.push('cut')
          }
          at = end ?? chunk.length
        }
        if (!losing) carry(chunk.length)
        return pieces
      },
    }
  }
}

/** What Redis says by itself is no reply: '>'. */
const PUSH = 0x3e

function commandOf (args: Buffer[]): Command {
  const name = String(args[0]).toUpperCase()
  if (name === 'EVAL' || name === 'EVAL_RO') return { name, args, script: createHash('sha1').update(args[1]!).digest('hex') }
  if (name === 'EVALSHA' || name === 'EVALSHA_RO' || name === 'FCALL' || name === 'FCALL_RO') return { name, args, script: String(args[1]) }
  return { name, args }
}
