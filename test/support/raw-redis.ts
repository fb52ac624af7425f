import { once } from 'node:events'
import { createServer, type AddressInfo, type Socket } from 'node:net'
import type { Test } from 'tap'
import { CommandReader } from './resp.js'

/** What stands in Redis's place: answers each command with bytes. @returns its URL */
export async function rawRedis (t: Test, answer: (command: string[]) => string): Promise<string> {
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    const reader = new CommandReader()
    sockets.add(socket)
    socket.on('error', () => {})
    socket.on('data', (chunk) => { for (const args of reader.read(chunk)) socket.write(answer(args.map(String))) })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return `redis://127.0.0.1:${(server.address() as AddressInfo).port}`
}
