from pipeline.loading import load as load
