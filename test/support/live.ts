import { once } from 'node:events'
import { get, type IncomingMessage } from 'node:http'
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

  private constructor (readonly reply: IncomingMessage) {
    this.ended = this.#read().catch(() => {}) // cut off, by either side
  }

  static async open (t: Test, url: string, headers: Record<string, string>): Promise<Live> {
    // not fetch, which leaves unused connections behind where a request is aborted
    const request = get(url, { headers, agent: false })
    request.on('error', () => {})
    t.teardown(() => request.destroy())
    const [reply] = await once(request, 'response') as [IncomingMessage]
    if (reply.statusCode !== 200) throw new Error(`status ${reply.statusCode}`)
    return new Live(reply)
  }

  close (): void {
    this.reply.destroy()
  }

  /** Waits for the event with this id. */
  async until (id: string): Promise<void> {
    await until(`event ${id} is shown`, () => this.entries.some((entry) => entry.id === id))
  }

  async #read (): Promise<void> {
    let text = ''
    for await (const chunk of this.reply.setEncoding('utf8')) {
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
