import type { Test } from 'tap'
import { until } from './until.js'

export interface Entry {
  id: string
  fields: Record<string, string>
}

/** One who watches server-sent events, as a browser does but for coming back by itself. */
export class Live {
  readonly entries: Entry[] = []
  /** Names of the events that are no entries. */
  readonly others: string[] = []
  readonly ended: Promise<void>
  readonly #gone: AbortController

  private constructor (readonly headers: Headers, body: ReadableStream<Uint8Array>, gone: AbortController) {
    this.#gone = gone
    this.ended = this.#read(body).catch(() => {}) // cut off, by either side
  }

  static async open (t: Test, url: string, headers: Record<string, string>): Promise<Live> {
    const gone = new AbortController()
    t.teardown(() => gone.abort())
    const reply = await fetch(url, { headers, signal: gone.signal })
    if (reply.status !== 200) throw new Error(`status ${reply.status}`)
    return new Live(reply.headers, reply.body!, gone)
  }

  close (): void {
    this.#gone.abort()
  }

  /** Waits for the event with this id. */
  async until (id: string): Promise<void> {
    await until(`event ${id} is shown`, () => this.entries.some((entry) => entry.id === id))
  }

  async #read (body: ReadableStream<Uint8Array>): Promise<void> {
    let text = ''
    for await (const chunk of body.pipeThrough(new TextDecoderStream())) {
      const messages = (text + chunk).split('\n\n')
      text = messages.pop()!
      for (const message of messages) this.#take(message)
    }
  }

  #take (message: string): void {
    const line = (name: string): string | undefined => new RegExp(`^${name}: (.*)$`, 'm').exec(message)?.[1]
    const event = line('event')
    const data = line('data')
    if (event !== undefined) this.others.push(event)
    else if (data !== undefined) {
      const entry = JSON.parse(data) as Entry
      if (line('id') !== entry.id) throw new Error(`the message has the id ${line('id')}`)
      this.entries.push(entry)
    }
  }
}
