import fastifyJwt from '@fastify/jwt'
import Fastify from 'fastify'
import { tooljetEmbed } from 'fastify-tooljet-embed'

const { TOOLJET_URL = '', TOOLJET_API_TOKEN = '', REDIS_URL = '', JWT_SECRET = '', EMAIL = '' } = process.env

/** Whether a host does as it should under a test runner: `inject` is left out, which under Jest needs a newer Node.js for Fastify's own sake. */
export async function starts () {
  const app = Fastify()
  app.register(fastifyJwt, { secret: JWT_SECRET })
  app.register(tooljetEmbed, { tooljet: { url: TOOLJET_URL, apiToken: TOOLJET_API_TOKEN }, redis: REDIS_URL, apps: { sales: { appSlug: 'sales' } } })
  const origin = await app.listen({ port: 0, host: '127.0.0.1' })
  const headers = { authorization: `Bearer ${app.jwt.sign({ email: EMAIL })}`, 'content-type': 'application/json' }
  const url = await fetch(`${origin}/api/get-tooljet-url`, { method: 'POST', headers, body: '{"app":"sales"}' })
  const page = await fetch(`${origin}/tooljet-embed.js`)
  await app.close()
  if (url.status !== 200 || page.status !== 200) throw new Error(`${url.status} ${page.status}`)
}
