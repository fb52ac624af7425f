'use strict'

/* A CommonJS host. */

const Fastify = require('fastify')
const fastifyJwt = require('@fastify/jwt')
const { tooljetEmbed } = require('fastify-tooljet-embed')

const app = Fastify()
app.register(fastifyJwt, { secret: process.env.JWT_SECRET })
app.register(tooljetEmbed, {
  tooljet: { url: process.env.TOOLJET_URL, apiToken: process.env.TOOLJET_API_TOKEN },
  redis: process.env.REDIS_URL,
})
app.get('/dashboard', { onRequest: (request) => request.jwtVerify() }, (request) => request.tooljetEmbedUrl({ appSlug: 'sales' }))
app.listen({ port: Number(process.env.PORT) })
