# The training container for SageMaker, on top of sutor's image (tools/container/Dockerfile):
#   docker build -t sutor -f tools/container/Dockerfile --build-arg SETUP=--cuda --build-arg PRESET=cuda .
#   docker build -t sutor-sagemaker -f tools/container/sagemaker.Dockerfile .
# Push it to ECR; tools/sagemaker_submit.py --sagemaker_image takes its address. The service starts it
# with the argument `train`.
ARG BASE=sutor
FROM ${BASE}
COPY tools/sagemaker.py /opt/sagemaker/
COPY tools/sutor_sagemaker /opt/sagemaker/sutor_sagemaker
# Its output is the job's log: each line at once.
ENV SUTOR=/opt/sutor/bin/sutor PYTHONUNBUFFERED=1
WORKDIR /opt/ml
ENTRYPOINT ["python3", "/opt/sagemaker/sagemaker.py"]
CMD ["train"]
