import fastifyJwt from '@fastify/jwt'
import Fastify from 'fastify'
import tooljetEmbed, { type TooljetEmbedOptions } from '../../plugin/index.js'

/* A host that does not start, for a path that is taken, and calls neither close() nor process.exit(): it ends only if nothing is left behind. */

const app = Fastify()
app.get('/taken', async () => '')
app.register(fastifyJwt, { secret: 'x'.repeat(32) })
app.register(tooljetEmbed, JSON.parse(process.argv[2]!) as TooljetEmbedOptions)
try {
  await app.ready()
} catch (error) {
  console.log((error as { code: string }).code)
}
