import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'

/** What the network does to each connection; nothing given: it works. */
export interface Weather {
  /** New connections are closed at once, and those that exist are cut. */
  refuse?: boolean
  /** Connections are accepted and nothing gets through; what was held up arrives when it ends, as after a lost link. */
  blackHole?: boolean
  /** One way. */
  delayMs?: number
  /** One way, of each connection. */
  bytesPerSecond?: number
}

/** Sees what one connection carries, and decides over what comes back. */
export interface Inspector {
  request (chunk: Buffer): void
  /** @returns what of it is carried, in this order; 'cut' ends the connection once that has left */
  reply (chunk: Buffer): (Carried | 'cut')[]
}

export interface Carried {
  bytes: Buffer
  /** Besides the weather's: it and all that follows arrive that much later. */
  delayMs?: number
}

const MAX_HELD_BYTES = 1024 * 1024

/** A TCP proxy on loopback whose weather is switched while it runs. */
export class TcpProxy {
  readonly #server: Server
  readonly #sockets = new Set<Socket>()
  #weather: Weather = {}
  #cleared: PromiseWithResolvers | undefined

  protected constructor (private readonly targetPort: number) {
    this.#server = createServer((socket) => this.#accept(socket))
  }

  static async to (targetPort: number): Promise<TcpProxy> {
    return new TcpProxy(targetPort).listen()
  }

  protected async listen (): Promise<this> {
    await new Promise<void>((resolve) => { this.#server.listen(0, '127.0.0.1', resolve) })
    return this
  }

  /** For each new connection. */
  protected inspector (): Inspector | undefined {
    return undefined
  }

  get port (): number {
    return (this.#server.address() as AddressInfo).port
  }

  set (weather: Weather): void {
    this.#weather = weather
    if (weather.blackHole === true) this.#cleared ??= withResolvers()
    else {
      this.#cleared?.resolve()
      this.#cleared = undefined
    }
    if (weather.refuse === true) this.cut()
  }

  /**
   * Cuts all connections that exist. Not by `resetAndDestroy`, which first waits for what is still to be sent, and, where
   * an error comes in that wait, leaves a handle behind that keeps Node 20 busy at its exit for ever.
   */
  cut (): void {
    for (const socket of this.#sockets) socket.destroy()
  }

  async close (): Promise<void> {
    this.set({})
    this.cut()
    await new Promise((resolve) => { this.#server.close(resolve) })
  }

  #accept (client: Socket): void {
    if (this.#weather.refuse === true) {
      client.destroy()
      return
    }
    const target = connect(this.targetPort, '127.0.0.1')
    for (const socket of [client, target]) {
      socket.setNoDelay(true)
      this.#sockets.add(socket)
      socket.on('error', () => {})
    }
    const inspector = this.inspector()
    this.#carry(client, target, (chunk) => {
      inspector?.request(chunk)
      return [{ bytes: chunk }]
    })
    this.#carry(target, client, (chunk) => inspector?.reply(chunk) ?? [{ bytes: chunk }])
  }

  /** Carries what one side says to the other, in its order; a close travels like anything else. */
  #carry (from: Socket, to: Socket, inspect: (chunk: Buffer) => (Carried | 'cut')[]): void {
    let last = Promise.resolve()
    let held = 0
    const queue = (bytes: number, deliver: () => void, moreMs = 0): void => {
      const delayMs = (this.#weather.delayMs ?? 0) + moreMs
      const due = performance.now() + delayMs
      if (held === 0 && delayMs === 0 && this.#weather.bytesPerSecond === undefined && this.#cleared === undefined) {
        deliver()
        return
      }
      held += bytes + 1
      if (held > MAX_HELD_BYTES) from.pause()
      last = last.then(async () => {
        await this.#cleared?.promise
        const { bytesPerSecond } = this.#weather
        const waitMs = Math.max(due - performance.now(), bytesPerSecond === undefined ? 0 : bytes / bytesPerSecond * 1000)
        if (waitMs > 0) await sleep(waitMs)
        await this.#cleared?.promise
        held -= bytes + 1
        if (held < MAX_HELD_BYTES) from.resume()
        deliver()
      })
    }
    from.on('data', (chunk: Buffer) => {
      for (const piece of inspect(chunk)) {
        if (piece === 'cut') queue(0, () => { from.destroy() })
        else queue(piece.bytes.length, () => { if (to.writable) to.write(piece.bytes) }, piece.delayMs)
      }
    })
    from.on('close', () => {
      this.#sockets.delete(from)
      queue(0, () => { to.destroySoon() })
    })
  }
}

interface PromiseWithResolvers {
  promise: Promise<void>
  resolve: () => void
}

function withResolvers (): PromiseWithResolvers {
  let resolve = (): void => {}
  const promise = new Promise<void>((_resolve) => { resolve = _resolve })
  return { promise, resolve }
}
