export default async function dashboard (fastify) {
  fastify.get('/dashboard', { onRequest: (request) => request.jwtVerify() }, (request) => request.tooljetEmbedUrl({ app: 'sales' }))
}
